"""The images' files against the project: what no build is needed to see."""

import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest

from irvis.runtime.cli import make_parser

yaml = pytest.importorskip("ruamel.yaml")  # with rosbags, in the extra dev
requirements = pytest.importorskip("packaging.requirements")

ROOT = Path(__file__).parents[2]
IMAGES = {"cpu": ("cpu", "3.11"), "gpu": ("workstation", "3.11"), "jetson": ("jetson", "3.8")}  # extra and Python


def instructions(image):
    """Return the instructions of an image's Dockerfile, each on one line."""
    text = (ROOT / "docker" / f"{image}.Dockerfile").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def locked(image):
    """Return name and version of what an image installs from its index."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docker").glob(f"*-{image}.txt")))
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))


@pytest.fixture(scope="module")
def services():
    """The services of compose.yaml, its anchors and merges resolved."""
    return yaml.YAML(typ="safe").load(ROOT / "docker" / "compose.yaml")["services"]


@pytest.mark.parametrize("image", IMAGES)
def test_the_lock_is_what_setup_py_asks_for(image):
    extra, python = IMAGES[image]
    versions = locked(image)
    environment = {"extra": extra, "python_version": python, "python_full_version": f"{python}.0"}
    for requirement in map(requirements.Requirement, requires("irvis")):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version = versions.get(requirement.name.lower(), "0")
            assert requirement.specifier.contains(version), f"{requirement}, not {version}: run docker/lock.sh"


@pytest.mark.parametrize("image", IMAGES)
def test_all_that_is_locked_has_hashes(image):
    for path in (ROOT / "docker").glob(f"*-{image}.txt"):
        for block in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8").strip()):
            assert re.match(r"[a-z0-9-]+==[^ ]+ (; .+ )?\\\n +--hash=sha256:", block), block[:80]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_pinned_ends_as_its_own_user_and_checks_its_health(image):
    lines = instructions(image)
    arguments = dict(line.split()[1].split("=", 1) for line in lines if line.startswith("ARG ") and "=" in line)
    for base in (line.split()[1] for line in lines if line.startswith("FROM ")):
        while base.startswith("${"):
            base = arguments[base[2:-1]]
        assert re.search(r":[a-z]*\d+\.\d+\.\d+", base), base
    final = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert [line for line in final if line.startswith("USER ")] == ["USER irvis"]
    assert any(line.startswith("HEALTHCHECK ") and "import irvis.runtime" in line for line in final)
    installs = [line for line in lines if "pip install" in line and "-r " in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)


def test_the_jetson_image_keeps_the_numpy_that_tensorrt_8_5_needs():
    assert tuple(map(int, locked("jetson")["numpy"].split("."))) < (1, 24)
    assert not any(name.startswith("opencv") for name in locked("jetson"))  # NVIDIA's, with GStreamer


def test_the_services_run_commands_that_irvis_takes(services):
    programs = {service["command"][0] for service in services.values()}
    assert programs == {"irvis", "build_engine.py", "bench.py"}
    for name in ("run", "window"):
        program, subcommand, *arguments = services[name]["command"]
        parsed = make_parser(subcommand).parse_args(arguments)
        assert (program, parsed.model.name) == ("irvis", "student.engine")
    for service in services.values():
        image = service["image"].split(":")[1]
        assert service["build"] == {"context": "..", "dockerfile": f"docker/{image}.Dockerfile"}


def test_no_service_is_given_more_than_it_needs(services):
    for service in services.values():
        assert "privileged" not in service
        assert "ports" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["profiles"]  # a bare `docker compose up` starts nothing
    binds = {volume["target"]: volume for volume in services["train"]["volumes"] if isinstance(volume, dict)}
    assert binds["/datasets"]["read_only"] is True


def test_the_page_is_asked_at_the_address_that_run_serves(services):
    default = make_parser("run").parse_args(services["run"]["command"][2:]).web
    host, port = default if isinstance(default, tuple) else default.split(":")
    assert f"http://{host}:{port}/" in services["run"]["healthcheck"]["test"][-1]


def test_what_goes_to_the_engine_is_what_is_installed():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == {
        "LICENSE",
        "README.md",
        "benchmarks",
        "docker",
        "export",
        "pyproject.toml",
        "runtime",
        "setup.py",
        "student",
    }
    assert all((ROOT / name).exists() for name in allowed)


@pytest.mark.parametrize("script", ["check.sh", "lock.sh"])
def test_the_scripts_parse(script):
    subprocess.run(["bash", "-n", str(ROOT / "docker" / script)], check=True)
