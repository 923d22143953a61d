import logging

import numpy as np
import pytest

from irvis.runtime.errors import FileError
from irvis.runtime.images import write_image
from irvis.runtime.pairs import find_halves, images_called, match_folders, pairs_of


def put(folder, *names, size=(2, 2)):
    for name in names:
        write_image(folder / name, np.zeros(size, np.uint8))
    return folder


def listed(pairs, folder):
    """Return each pair's name and where its two files lie in ``folder``."""
    return [
        (pair.name, *(path.relative_to(folder).as_posix() for path in (pair.infrared, pair.visible))) for pair in pairs
    ]


def test_files_are_matched_by_stem_whatever_their_suffix(tmp_path):
    infrared = put(tmp_path / "ir", "b.png", "a.png", "only.png", ".hidden.png")
    visible = put(tmp_path / "vi", "a.JPG", "b.bmp", "other.png", ".hidden.png")
    (visible / "a.txt").write_text("notes")
    assert [(p.name, p.infrared.name, p.visible.name) for p in match_folders(infrared, visible)] == [
        ("a", "a.png", "a.JPG"),
        ("b", "b.png", "b.bmp"),
    ]


def test_no_common_name_says_examples(tmp_path):
    with pytest.raises(FileError, match="Found 1 such as a and 2 such as b"):
        match_folders(put(tmp_path / "ir", "a.png"), put(tmp_path / "vi", "b.png", "c.png"))


def test_empty_and_missing_folders_are_named(tmp_path):
    full = put(tmp_path / "full", "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"no image in folder .*empty"):
        match_folders(full, tmp_path / "empty")
    for call in (lambda folder: match_folders(folder, full), pairs_of, find_halves):
        with pytest.raises(FileError, match=r"folder not found: .*nowhere"):
            call(tmp_path / "nowhere")
    with pytest.raises(FileError, match=r"cannot read folder .*a\.png: Not a directory"):
        pairs_of(full / "a.png")


def test_a_stem_that_stands_for_two_files_is_refused(tmp_path):
    with pytest.raises(FileError, match="both named a"):
        match_folders(put(tmp_path / "ir", "a.png", "a.jpg"), put(tmp_path / "vi", "a.png"))


@pytest.mark.parametrize(
    ("infrared", "visible", "names"),
    [
        (("IR_01", "IR_02"), ("VIS_01", "VIS_02"), ["01", "02"]),
        (("IR1", "IR2", "IR10"), ("VIS1", "VIS2", "VIS3"), ["1", "2"]),
        (("00001_ir", "00002_ir"), ("00001_vi", "00002_vi"), ["00001", "00002"]),
        (("00001-thermal", "00002-thermal"), ("00001", "00002"), ["00001", "00002"]),
        (("1800i", "1801i"), ("1800v", "1801v"), ["1800", "1801"]),
        (("cam_car_ir", "cam_cat_ir"), ("cam_car_vi", "cam_cat_vi"), ["car", "cat"]),
        (("a_1_ir", "b_1_ir"), ("a_1_vi", "b_1_vi"), ["a_1", "b_1"]),
    ],
    ids=["prefix", "no separator", "suffix", "one side", "a letter", "words alike", "a number alike"],
)
def test_halves_that_differ_by_a_fixed_prefix_or_suffix_are_matched(tmp_path, infrared, visible, names):
    put(tmp_path / "ir", *(f"{stem}.png" for stem in infrared))
    put(tmp_path / "vi", *(f"{stem}.png" for stem in visible))
    pairs = pairs_of(tmp_path)
    assert [pair.name for pair in pairs] == names
    for pair in pairs:
        assert pair.name in pair.infrared.stem
        assert pair.name in pair.visible.stem


@pytest.mark.parametrize(
    ("infrared", "visible"),
    [
        (("0001", "0002"), ("0011", "0012")),
        (("car_ir", "cat_ir"), ("bar_vi", "bat_vi")),
        (("ir1_1", "ir1_2"), ("vi2_1", "vi2_2")),
        (("a_ir",), ("b_vi",)),
        (("x", "x_x"), ("y", "y_y")),
    ],
    ids=["digits", "letters", "a number before", "one each", "nothing left"],
)
def test_what_only_looks_like_a_prefix_is_not_taken_for_one(tmp_path, infrared, visible):
    put(tmp_path / "ir", *(f"{stem}.png" for stem in infrared))
    put(tmp_path / "vi", *(f"{stem}.png" for stem in visible))
    with pytest.raises(FileError, match=f"Found {len(infrared)} such as {infrared[0]} and"):
        pairs_of(tmp_path)


@pytest.mark.parametrize(
    "names",
    [("ir", "vi"), ("infrared", "visible"), ("Ir", "Vis"), ("IR", "VIS"), ("thermal", "visual"), ("lwir", "vis")],
)
def test_the_halves_are_found_under_the_names_that_data_sets_use(tmp_path, names):
    put(tmp_path / names[0], "a.png"), put(tmp_path / names[1], "a.png")
    put(tmp_path / "Segmentation_labels", "a.png"), put(tmp_path / "bi_seg_visualize", "a.png")
    assert [path.name for path in find_halves(tmp_path)] == list(names)
    assert len(pairs_of(tmp_path)) == 1


def test_a_half_named_by_its_word_alone_goes_before_others(tmp_path):
    for name in ("ir", "ir_labels", "vi", "vi_enhanced"):
        put(tmp_path / name, "a.png")
    assert find_halves(tmp_path) == (tmp_path / "ir", tmp_path / "vi")


def test_roadscene_as_published_gives_the_two_folders_that_are_registered(tmp_path):
    """Its infrared/ is the uncut frame and crop_HR_visible is larger: the sizes are those of FLIR_00006."""
    sizes = {
        "crop_HR_visible": (1026, 1404),
        "crop_LR_visible": (329, 500),
        "cropinfrared": (329, 500),
        "infrared": (512, 640),
    }
    for name, size in sizes.items():
        put(tmp_path / name, "FLIR_00006.png", "FLIR_video_00069.png", size=size)
        (tmp_path / name / "Thumbs.db").write_bytes(b"")
    assert find_halves(tmp_path) == (tmp_path / "cropinfrared", tmp_path / "crop_LR_visible")
    assert [pair.name for pair in pairs_of(tmp_path)] == ["FLIR_00006", "FLIR_video_00069"]


def test_halves_that_could_be_combined_in_several_ways_are_refused(tmp_path):
    for name in ("ir", "visible", "vis"):
        put(tmp_path / name, "a.png")
    with pytest.raises(FileError, match=r"cannot tell which two .*: \S*/ir, \S*/vis, \S*/visible; leave one infrared"):
        pairs_of(tmp_path)


def test_a_folder_named_for_both_halves_is_neither(tmp_path):
    put(tmp_path / "ir_vis", "a.png"), put(tmp_path / "vi", "a.png")
    assert find_halves(tmp_path) is None


def test_msrs_and_m3fd_as_published_ask_for_one_of_their_parts(tmp_path):
    for part in ("train", "test", "detection"):
        for half in ("ir", "vi", "labels"):
            put(tmp_path / "MSRS" / part / half, "00001D.png", "00004N.png")
    for part in ("M3FD_Fusion", "M3FD_Detection"):
        put(tmp_path / "M3FD" / part / "Ir", "00000.png"), put(tmp_path / "M3FD" / part / "Vis", "00000.png")
    (tmp_path / "M3FD" / "M3FD_Detection" / "Annotation").mkdir()
    with pytest.raises(FileError) as msrs:
        pairs_of(tmp_path / "MSRS")
    parts = ", ".join(str(tmp_path / "MSRS" / part) for part in ("detection", "test", "train"))
    assert str(msrs.value) == f"{tmp_path / 'MSRS'} holds several data sets; give one of {parts}"
    with pytest.raises(FileError, match=r"give one of \S*M3FD/M3FD_Detection, \S*M3FD/M3FD_Fusion$"):
        pairs_of(tmp_path / "M3FD")
    with pytest.raises(FileError, match=r"give one of \S*/M3FD, \S*/MSRS$"):
        pairs_of(tmp_path)
    assert [pair.name for pair in pairs_of(tmp_path / "MSRS" / "train")] == ["00001D", "00004N"]
    assert len(pairs_of(tmp_path / "M3FD" / "M3FD_Fusion")) == 1


def test_llvip_as_published_asks_for_two_of_its_folders_and_takes_the_only_two(tmp_path):
    for half in ("infrared", "visible"):
        put(tmp_path / "LLVIP" / half / "train", "010001.jpg", "010002.jpg")
        put(tmp_path / "LLVIP" / half / "test", "190001.jpg")
    first, second = (tmp_path / "LLVIP" / half / "test" for half in ("infrared", "visible"))
    with pytest.raises(FileError) as caught:
        pairs_of(tmp_path / "LLVIP")
    assert str(caught.value) == (
        f"{tmp_path / 'LLVIP'} holds several data sets, test, train, each in two folders; give --infrared {first} "
        f"--visible {second}, or another two, or link them as ir and vi into a folder"
    )
    (first / "190001.jpg").unlink()
    first.rmdir()
    assert listed(pairs_of(tmp_path), tmp_path / "LLVIP") == [
        (name, f"infrared/train/{name}.jpg", f"visible/train/{name}.jpg") for name in ("010001", "010002")
    ]


def test_the_only_data_set_in_a_folder_is_taken(tmp_path):
    put(tmp_path / "RoadScene-master" / "test" / "ir", "a.png")
    put(tmp_path / "RoadScene-master" / "test" / "vi", "a.png")
    (tmp_path / "docs").mkdir()
    assert len(pairs_of(tmp_path)) == 1


def test_splits_below_a_wrapping_folder_are_named_where_they_part(tmp_path):
    for part in ("train", "test"):
        put(tmp_path / "a" / "b" / part, "1_ir.png", "1_vi.png", "2_ir.png", "2_vi.png")
    with pytest.raises(FileError, match=r"give one of \S*/a/b/test, \S*/a/b/train$"):
        pairs_of(tmp_path)


def test_many_data_sets_are_not_all_named(tmp_path):
    for part in range(10):
        put(tmp_path / f"part{part}" / "ir", "a.png"), put(tmp_path / f"part{part}" / "vi", "a.png")
    with pytest.raises(FileError, match=r"part0, .*part7 and 2 more$"):
        pairs_of(tmp_path)


def test_pairs_lie_beside_each_other_in_one_folder(tmp_path):
    put(tmp_path, "00002_ir.png", "00001_vi.png", "00001_ir.png", "00002_vi.jpg", "00003_ir.png", "fused_00001.png")
    put(tmp_path, "IR_x.bmp", "VIS_x.bmp", "NIR_x.bmp", "Farm_IR.bmp", "Farm_Vis.bmp", "Farm_II.bmp")
    assert listed(pairs_of(tmp_path), tmp_path) == [
        ("00001", "00001_ir.png", "00001_vi.png"),
        ("00002", "00002_ir.png", "00002_vi.jpg"),
        ("Farm", "Farm_IR.bmp", "Farm_Vis.bmp"),
        ("x", "IR_x.bmp", "VIS_x.bmp"),
    ]


def test_a_half_that_stands_twice_for_one_name_is_refused(tmp_path):
    put(tmp_path, "1_ir.png", "ir_1.png", "1_vi.png")
    with pytest.raises(FileError, match=r"two infrared images have one name: .*1_ir\.png and .*ir_1\.png$"):
        pairs_of(tmp_path)
    (tmp_path / "1_vi.png").unlink()
    with pytest.raises(FileError, match="no pairs"):
        pairs_of(tmp_path)


def test_tno_as_published_is_a_set_of_scenes(tmp_path):
    """Real names of the figshare archive: composites (rg), near infrared and photos beside the two halves."""
    scenes = {
        "2_men_in_front_of_house": ("IR_meting003_g.bmp", "VIS_meting003_r.bmp", "meting003_rg.bmp"),
        "APC_1/view_1": ("IR_fk_06_005.bmp", "VIS_fk_06_005.bmp", "fk_06_005_rg.bmp"),
        "APC_1/view_2": ("IR_fk_ref_01_005.bmp", "VIS_fk_ref_01_005.bmp", "fk_ref_01_005_rg.bmp"),
        "airplane_in_trees": ("ir.bmp", "vis.bmp"),
        "bunker": ("IR_bunker_g.bmp", "VIS_bunker-rg.bmp", "bunker_r.bmp"),
        "heather": ("IR_hei_vis_g.bmp", "VIS_hei_vis_r.bmp", "hei_vis-rg.bmp"),
        "Bosnia": ("LWIR_B.bmp", "VIS_R.bmp", "NIR_G.bmp", "daylight_image.bmp"),
        "Kaptein_01": ("IR01.bmp", "Vis01.bmp", "NIR01.bmp", "photo.bmp"),
        "Kaptein_1654": ("Kaptein_1654_IR.bmp", "Kaptein_1654_Vis.bmp", "Kaptein_1654_II.bmp", "Kaptein_1654_REF.bmp"),
        "barbed_wire_1": ("B_LWIR.tif", "R_Vis.tif", "G_NIR.tif", "RGB.tif"),
        "bench": ("IR_37rad.bmp", "VIS_37dhvR.bmp", "NIR_37dhvG.bmp"),
        "tank": ("LWIR.tif", "Vis.tif"),
    }
    others = {"APC_2/view_1": ("1_fk_ge_03_005.bmp", "2_fk_ge_03_005.bmp"), "Balls": ("NIR.bmp", "VIS.bmp")}
    for scene, names in {**scenes, **others}.items():
        put(tmp_path / "TNO" / scene, *names)
    wanted = [
        (scene.replace("/", "_"), f"{scene}/{names[0]}", f"{scene}/{names[1]}") for scene, names in scenes.items()
    ]
    assert listed(pairs_of(tmp_path / "TNO"), tmp_path / "TNO") == sorted(wanted)
    assert pairs_of(tmp_path / "TNO" / "heather")[0].name == "heather"

    sequence = tmp_path / "TNO" / "Nato_camp_sequence"
    put(sequence / "thermal", "1800i.bmp", "1801i.bmp"), put(sequence / "visual", "1800v.bmp", "1801v.bmp")
    assert [pair.name for pair in pairs_of(sequence)] == ["1800", "1801"]
    with pytest.raises(FileError, match=r"several data sets; give one of .*2_men_in_front_of_house, .* more$"):
        pairs_of(tmp_path / "TNO")


def test_one_image_of_each_half_is_no_pair_where_their_numbers_differ(tmp_path):
    put(tmp_path, "00001_ir.png", "00002_vi.png")
    with pytest.raises(FileError, match=r"no pairs in .*\. Found 00001_ir\.png, 00002_vi\.png$"):
        pairs_of(tmp_path)


def test_scenes_that_would_share_a_name_are_refused(tmp_path):
    for scene in ("a/b_c", "a_b/c"):
        put(tmp_path / scene, "ir.png", "vi.png")
    with pytest.raises(FileError, match="both named a_b_c"):
        pairs_of(tmp_path)


def test_a_folder_without_pairs_is_refused_with_what_it_holds(tmp_path):
    with pytest.raises(FileError, match=r"no pairs in .* such as ir and vi.* Found nothing$"):
        pairs_of(tmp_path)
    put(tmp_path / "one" / "two" / "three" / "too_deep" / "ir", "a.png")
    put(tmp_path / "one" / "two" / "three" / "too_deep" / "vi", "a.png")
    with pytest.raises(FileError, match=r"Found one$"):
        pairs_of(tmp_path)
    assert len(pairs_of(tmp_path / "one")) == 1


def test_the_shared_data_sets_are_found_whole(data, caplog):
    """As the README beside them counts them."""
    counts = {"MSRS/train": 181, "MSRS/test": 60, "RoadScene/test": 111, "TNO/test": 25, "M3FD/test": 10}
    assert {name: len(pairs_of(data / name)) for name in counts} == counts
    assert not caplog.messages


def test_images_of_two_folders_without_a_partner_are_told_once(tmp_path, caplog):
    put(tmp_path / "ir", *(f"{index:02}.png" for index in range(10))), put(tmp_path / "labels", "20.png", "21.png")
    put(tmp_path / "vi", *(f"{index:02}.jpg" for index in range(9)), "90.jpg", "91.jpg")
    for _ in range(2):  # as a command that trains and validates on one folder lists it
        assert len(pairs_of(tmp_path)) == len(match_folders(tmp_path / "ir", tmp_path / "vi")) == 9
    first = tmp_path / "ir" / "09.png"
    said = f"1 infrared and 2 visible images have no partner and are left out; the first is {first}"
    assert caplog.record_tuples == [("irvis.pairs", logging.WARNING, said)]
    first.unlink()
    pairs_of(tmp_path.parent / tmp_path.name)
    assert caplog.messages[1:] == [
        f"0 infrared and 2 visible images have no partner and are left out; the first is {tmp_path / 'vi' / '90.jpg'}"
    ]


def test_of_names_with_affixes_those_are_told_that_differ_beyond_them(tmp_path, caplog):
    put(tmp_path / "thermal", "IR_01.png", "IR_02.png"), put(tmp_path / "visual", "VIS_02.png", "VIS_03.png")
    assert [pair.name for pair in pairs_of(tmp_path)] == ["02"]
    first = tmp_path / "thermal" / "IR_01.png"
    assert caplog.messages == [
        f"1 infrared and 1 visible images have no partner and are left out; the first is {first}"
    ]


def test_nothing_is_said_of_folders_that_match_nor_of_what_lies_beside_pairs(tmp_path, caplog):
    put(tmp_path / "whole" / "ir", "a.png", "b.png"), put(tmp_path / "whole" / "vi", "a.png", "b.png")
    put(tmp_path / "whole" / "labels", "c.png"), put(tmp_path / "whole", "overview.png")
    (tmp_path / "whole" / "vi" / "c.txt").write_text("notes")
    put(tmp_path / "beside", "1_ir.png", "1_vi.png", "2_ir.png", "fused_1.png")
    put(tmp_path / "scenes" / "one", "IR_1.bmp", "VIS_1.bmp", "IR_2.bmp")
    put(tmp_path / "scenes" / "two", "IR_3.bmp", "VIS_3.bmp")
    # Of folders that could be combined in several ways, those that were not chosen are none of the data set's.
    put(tmp_path / "road" / "ir", "a.png"), put(tmp_path / "road" / "vis", "a.png")
    put(tmp_path / "road" / "visible", "a.png", "b.png", size=(4, 4))
    # Refused, so nothing of it is left out.
    put(tmp_path / "sets" / "test" / "ir", "a.png", "b.png"), put(tmp_path / "sets" / "test" / "vi", "a.png")
    put(tmp_path / "sets" / "train" / "ir", "a.png", "b.png"), put(tmp_path / "sets" / "train" / "vi", "a.png")
    counts = {"whole": 2, "beside": 1, "scenes": 2, "road": 1}
    assert {name: len(pairs_of(tmp_path / name)) for name in counts} == counts
    with pytest.raises(FileError, match="several data sets"):
        pairs_of(tmp_path / "sets")
    assert not caplog.messages


def test_the_image_of_each_name_is_found_as_it_is_or_without_what_all_names_share(tmp_path):
    names = ["02", "01"]
    assert [path.name for path in images_called(put(tmp_path / "a", "01.png", "02.jpg", "03.png"), names)] == [
        "02.jpg",
        "01.png",
    ]
    shared = put(tmp_path / "b", "fused_01_SHIP.png", "fused_02_SHIP.png")
    assert [path.name for path in images_called(shared, names)] == ["fused_02_SHIP.png", "fused_01_SHIP.png"]
    # As in RoadScene, where the names themselves have a word in common.
    named = put(tmp_path / "c", "FLIR_00006_fused.jpg", "FLIR_00060_fused.jpg")
    for names in (["FLIR_00060", "FLIR_00006"], ["00060", "00006"], ["FLIR_00060_fused", "FLIR_00006_fused"]):
        assert [path.name for path in images_called(named, names)] == ["FLIR_00060_fused.jpg", "FLIR_00006_fused.jpg"]
    assert images_called(named, ["FLIR_00006"]) == [named / "FLIR_00006_fused.jpg"]


def test_a_name_without_an_image_is_told_with_those_there_are(tmp_path):
    with pytest.raises(FileError, match=r"no image in .*a is called 3, 4. Found 1, 2"):
        images_called(put(tmp_path / "a", "1.png", "2.png"), ["1", "3", "4"])
