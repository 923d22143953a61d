import importlib
import sys

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from irvis.runtime.errors import ModelError
from irvis.student.network import Student
from irvis.student.teachers.any_module import ModuleTeacher


class Mean(nn.Module):
    """Fuses by the mean; ``head`` and ``tail`` are called on a (B, 2, H, W) of both planes."""

    def __init__(self, head, tail):
        super().__init__()
        self.head, self.tail, self.idle = head, tail, nn.Identity()

    def forward(self, infrared, visible):
        both = self.tail(self.head(torch.cat([infrared, visible], dim=1)))
        return both.mean(dim=1, keepdim=True), both


def planes(height=16, width=20, batch=2):
    return torch.rand(2, batch, 1, height, width, generator=torch.Generator().manual_seed(1)).unbind()


def refusal(teacher, *inputs):
    with pytest.raises(ModelError) as caught:
        teacher(*inputs)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("feature", "of"), [("decoder", "input"), ("fusion", "output"), ("fusion.rstb", "output")])
def test_the_feature_is_the_submodules_input_or_output(feature, of):
    student = Student().eval()
    infrared, visible = planes()
    with torch.no_grad():
        wanted_fused, wanted_feature = student(infrared, visible, return_feature=True)
    found_feature, found_fused = ModuleTeacher(student, feature, of)(infrared, visible)
    assert torch.equal(found_feature, wanted_feature)
    assert torch.equal(found_fused, wanted_fused)


@pytest.mark.parametrize("of", ["input", "output"])
def test_what_comes_after_cannot_change_the_feature_in_place(of):
    infrared, visible = (plane - 0.5 for plane in planes())
    head = nn.ReLU(inplace=True) if of == "input" else nn.Identity()
    tail = nn.Identity() if of == "input" else nn.ReLU(inplace=True)
    feature, fused = ModuleTeacher(Mean(head, tail), "head", of)(infrared, visible)
    both = torch.cat([infrared, visible], dim=1)
    assert torch.equal(feature, both)
    assert torch.equal(fused, both.relu().mean(dim=1, keepdim=True))


def test_the_planes_stay_as_they_were():
    class Clears(nn.Module):
        def forward(self, infrared, visible):
            return infrared.zero_()

    infrared, visible = planes()
    before = infrared.clone()
    _, fused = ModuleTeacher(Clears(), "", "output")(infrared, visible)
    assert torch.equal(infrared, before)
    assert not fused.any()


def test_keywords_and_tuples_hold_the_feature_too():
    class Tail(nn.Module):
        def forward(self, scale, *, value):
            return value, scale

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.tail = Tail()

        def forward(self, infrared, visible):
            return [self.tail(2, value=visible)[0], "more"]

    infrared, visible = planes()
    for of in ("input", "output"):
        feature, fused = ModuleTeacher(Net(), "tail", of)(infrared, visible)
        assert torch.equal(feature, visible)
        assert torch.equal(fused, visible)


def test_of_several_calls_the_last_counts():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Identity()

        def forward(self, infrared, visible):
            return (self.encoder(infrared) + self.encoder(visible)) / 2

    infrared, visible = planes()
    feature, _ = ModuleTeacher(Net(), "encoder")(infrared, visible)
    assert torch.equal(feature, visible)


def test_it_runs_in_eval_mode_and_without_gradient():
    infrared, visible = planes()
    module = Mean(nn.Dropout(0.5), nn.Conv2d(2, 2, 1))
    feature, fused = ModuleTeacher(module.train(), "tail")(infrared.requires_grad_(), visible)
    assert torch.equal(feature, torch.cat([infrared, visible], dim=1))
    assert not feature.requires_grad
    assert not fused.requires_grad
    assert not fused.is_inference()


def test_no_hook_stays_on_the_module_even_where_it_fails():
    module = Mean(nn.Identity(), nn.Identity())
    for of in ("input", "output"):
        teacher = ModuleTeacher(module, "tail", of)
        teacher(*planes())
        module.head = nn.Conv2d(3, 3, 1)
        refusal(teacher, *planes())
        module.head = nn.Identity()
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())


def test_an_unknown_submodule_is_answered_with_the_near_ones():
    with pytest.raises(ModelError, match=r"Student has no submodule decode\. Near: decoder\b"):
        ModuleTeacher(Student(), "decode")
    with pytest.raises(ModelError, match=r"Near: fusion\.rstb\.attention"):
        ModuleTeacher(Student(), "fusion.rstb.atention")
    with pytest.raises(ModelError, match=r"no submodule decoder\.forward"):
        ModuleTeacher(Student(), "decoder.forward")


def test_a_submodule_that_is_never_called_is_told():
    assert "never calls its submodule idle" in refusal(
        ModuleTeacher(Mean(nn.Identity(), nn.Identity()), "idle"), *planes()
    )


def test_torchscript_is_refused_whole_and_as_a_part():
    infrared, visible = planes()
    traced = torch.jit.trace(Mean(nn.Conv2d(2, 2, 1), nn.ReLU()).eval(), (infrared, visible))
    with pytest.raises(ModelError, match=r"^mine: in TorchScript no feature can be caught; give the nn\.Module"):
        ModuleTeacher(traced, "head", name="mine")

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = traced

        def forward(self, infrared, visible):
            return self.network(infrared, visible)[0]

    assert "in TorchScript" in refusal(ModuleTeacher(Wrapped(), "network.head"), infrared, visible)
    feature, _ = ModuleTeacher(Wrapped(), "network")(infrared, visible)
    assert torch.equal(feature, infrared)


def test_an_exported_program_teaches_once_unflattened():
    infrared, visible = planes()
    module = Mean(nn.Conv2d(2, 2, 1), nn.ReLU()).eval()
    program = torch.export.export(module, (infrared, visible))
    with pytest.raises(ModelError, match=r"^mine cannot be a teacher as it is: NotImplementedError: .*eval\(\)"):
        ModuleTeacher(program.module(), "head", name="mine")
    outputs = (
        ModuleTeacher(each, "head", "output")(infrared, visible) for each in (module, torch.export.unflatten(program))
    )
    assert all(torch.equal(wanted, found) for wanted, found in zip(*outputs))


def test_parameters_without_values_are_told():
    with pytest.raises(ModelError, match=r"uninitialized"):
        ModuleTeacher(nn.LazyConv2d(1, 1), "")
    with torch.device("meta"):
        module = nn.Conv2d(1, 1, 1)
    with pytest.raises(ModelError, match=r"meta"):
        ModuleTeacher(module, "", device="cpu")


def test_a_feature_that_is_no_map_is_told():
    squeeze = "local_branch.0.channel_attention.squeeze"
    message = refusal(ModuleTeacher(Student(), squeeze), *planes())
    assert squeeze in message
    assert "must be (B, C, h, w). Got (2, 32)" in message


def test_a_feature_of_another_batch_is_told():
    module = Mean(nn.Unflatten(0, (1, 2)), nn.Flatten(0, 1))
    module.head = nn.Sequential(nn.Flatten(0, 1), nn.Unflatten(0, (1, 4)))
    module.tail = nn.Sequential(nn.Flatten(0, 1), nn.Unflatten(0, (2, 2)))
    assert "batch, 2. Got (1, 4, 16, 20)" in refusal(ModuleTeacher(module, "tail"), *planes())


def test_a_fused_image_of_another_shape_is_told():
    module = Mean(nn.Identity(), nn.AvgPool2d(2))
    assert refusal(ModuleTeacher(module, "tail", name="mine"), *planes()) == (
        "the fused plane of mine must be (B, 1, H, W) = (2, 1, 16, 20). Got (2, 1, 8, 10); "
        "wrap it in a network that returns such a plane"
    )


def test_an_error_of_the_modules_own_is_one_line():
    message = refusal(ModuleTeacher(nn.Sequential(nn.Conv2d(1, 1, 1)), "0", name="mine"), *planes())
    assert message.startswith("mine failed on infrared and visible planes of (2, 1, 16, 20): TypeError: ")
    assert "float()" not in message


def test_weights_of_another_type_are_told_with_what_mends_them():
    message = refusal(ModuleTeacher(Mean(nn.Identity(), nn.Conv2d(2, 2, 1)).half(), "tail"), *planes())
    assert message.endswith("; the planes are float32 and its weights float16: give it as module.float()")


@pytest.mark.parametrize("names", ["vis, ir", "visible, infrared", "image_vis, image_inf", "vis, thermal", "rgb, ir"])
def test_a_module_that_names_the_visible_first_is_warned_of(caplog, names):
    typed = {"nn": nn}
    exec(f"class Typed(nn.Identity):\n    def forward(self, {names}): pass", typed)
    ModuleTeacher(typed["Typed"](), "", name="mine")
    assert caplog.messages == [f"mine: its forward({names}) gets the infrared first; wrap it to swap them"]


def test_other_modules_are_not_warned_of(caplog):
    ModuleTeacher(Student(), "decoder")
    ModuleTeacher(nn.Identity(), "")
    assert not caplog.messages


def test_planes_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="Got"):
        ModuleTeacher(Student(), "decoder")(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 20))


def test_names_and_parameters():
    assert ModuleTeacher(Student(), "decoder").name == "Student"
    assert ModuleTeacher(Student(), "decoder", name="mine").name == "mine"
    assert ModuleTeacher(Student(), "decoder").parameters == 77_713


def test_the_digest_changes_with_all_that_the_outputs_depend_on():
    torch.manual_seed(3)
    weights = nn.Conv2d(2, 2, 1).state_dict()

    def digest(slope=0.1, stride=1, feature="tail", of="input", change=0.0, head=nn.LeakyReLU):
        module = Mean(head(slope), nn.Conv2d(2, 2, 1, stride=stride))
        module.tail.load_state_dict({name: tensor + change for name, tensor in weights.items()})
        return ModuleTeacher(module, feature, of).digest

    assert digest() == digest()
    others = [
        digest(slope=0.2),
        digest(stride=2),
        digest(feature="head"),
        digest(of="output"),
        digest(change=0.5),
        digest(head=nn.ELU),
    ]
    assert len({digest(), *others}) == 7


def test_the_digest_changes_with_the_file_of_a_class(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    code = "from torch import nn\n\nclass Tail(nn.Conv2d):\n    gain = 0.9\n"
    digests = []
    for text in (code, code, code.replace("0.9", "0.8")):
        (tmp_path / "edited_tail.py").write_text(text)
        sys.modules.pop("edited_tail", None)
        importlib.invalidate_caches()
        torch.manual_seed(0)
        tail = importlib.import_module("edited_tail").Tail(2, 2, 1)
        digests.append(ModuleTeacher(Mean(nn.Identity(), tail), "tail").digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_class_without_a_file_has_a_digest_too():
    typed = {"nn": nn, "__name__": "typed_in"}
    exec("class Typed(nn.Identity): pass", typed)
    assert len(ModuleTeacher(Mean(typed["Typed"](), nn.Identity()), "tail").digest) == 64


def test_addresses_in_the_printed_form_do_not_enter_the_digest():
    class Curve(nn.Module):
        def __init__(self):
            super().__init__()
            self.function = lambda x: x

        def extra_repr(self):
            return repr(self.function)

        def forward(self, x):
            return self.function(x)

    first, second = (Mean(Curve(), nn.Identity()) for _ in range(2))
    assert repr(first) != repr(second)
    assert ModuleTeacher(first, "tail").digest == ModuleTeacher(second, "tail").digest
