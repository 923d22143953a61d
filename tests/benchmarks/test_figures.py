import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("thop")

from irvis.benchmarks import figures
from irvis.benchmarks.markdown import BEGIN, END

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "docs" / "results").mkdir(parents=True)
    for name in ("README.md", "docs/speed.md"):
        (tmp_path / name).write_text(f"# {name}\n{BEGIN.format(name='gpu')}\nold\n{END.format(name='gpu')}\n")
    result = {"kind": "table", "head": ["card", "ms"], "rows": [["H100", 1.25]], "notes": "Once."}
    (tmp_path / "docs" / "results" / "gpu.json").write_text(json.dumps(result))
    return tmp_path


def test_the_committed_pages_are_what_the_command_makes_of_the_committed_results():
    pages = list(figures.filled_pages(ROOT))
    for path, page, wanted in pages:
        assert page == wanted, f"{path.name}: run make figures"
    for name in figures.read_results(ROOT):
        shown = (BEGIN.format(name=name), f"](results/{name}.json)")
        assert any(text in page for _, page, _ in pages for text in shown), f"no page shows or links {name}.json"


def test_every_page_is_filled_once(repository, capsys, monkeypatch):
    monkeypatch.chdir(repository)
    assert figures.main([]) == 0
    assert capsys.readouterr().out.count("wrote ") == 2
    for name in ("README.md", "docs/speed.md"):
        page = (repository / name).read_text()
        assert "| card | ms |\n| --- | ---: |\n| H100 | 1.25 |\n\nOnce.\n" in page
        assert "old" not in page
    assert figures.main(["--root", str(repository)]) == 0
    assert capsys.readouterr().out == ""


def test_a_plot_is_drawn_beside_its_result(repository, capsys):
    folder = repository / "docs" / "results"
    shutil.copy(ROOT / "docs" / "results" / "peers-cpu.json", folder)
    assert figures.main(["--root", str(repository)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {folder / 'peers-cpu.png'}"
    assert (folder / "peers-cpu.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "gpu.png").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a result of a kind known here (complexity, peers, table)"),
        ('{"kind": "x"}', "not a result of a kind known here"),
        ("[]", "not a result of a kind known here"),
        ('{"kind": "table", "head": []}', "docs/results/gpu.json is incomplete: 'rows'"),
        ('{"kind": "table", "head": [], "rows": 3}', "docs/results/gpu.json is incomplete: "),
    ],
)
def test_a_bad_result_is_one_line(repository, capsys, content, said):
    (repository / "docs" / "results" / "gpu.json").write_text(content)
    assert figures.main(["--root", str(repository)]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
