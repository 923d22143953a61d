"""Maps the folders at the root to the packages of the namespace ``irvis``."""

from setuptools import setup

STAGES = ("student", "export", "runtime", "benchmarks")
setup(
    name="irvis",
    version="0.1.0",
    packages=[f"irvis.{stage}" for stage in STAGES],
    package_dir={f"irvis.{stage}": stage for stage in STAGES},
    python_requires=">=3.8",
)
