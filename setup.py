"""Maps the root folders to packages of the namespace ``irvis``, and lists the dependencies of each use."""

from pathlib import Path

from setuptools import setup

STAGES = ("student", "export", "runtime", "benchmarks")
PARTS = {
    "benchmarks": ("detection", "doctor", "experiments", "gpu_check", "machine", "peers", "report", "roofline"),
    "runtime": ("cameras", "registration", "ros", "web"),
    "student": ("teachers",),
}
PACKAGES = {f"irvis.{stage}": stage for stage in STAGES}
PACKAGES.update({f"irvis.{stage}.{part}": f"{stage}/{part}" for stage, parts in PARTS.items() for part in parts})

# Chosen to last ten years: the field's reference implementation, permissive licence, more than one maintainer.
OPENCV = "opencv-python-headless>=4.5.4,<6"  # JetPack 5 has 4.5.4; images, colour, video, without a GUI for servers
ONNXRUNTIME = "onnxruntime>=1.15,<2"  # the reference runtime of the ONNX format
AIOHTTP = "aiohttp>=3.9,<4"  # the live view's server: HTTP and WebSocket in one, and still available for Python 3.8
ROSBAGS = "rosbags>=0.9.20,<1"  # recordings of ROS 1 and 2 without ROS; pure Python

setup(
    name="irvis",
    version="0.1.0",
    description="Infrared-visible image fusion: from a distilled student to a TensorRT engine in a robot's loop",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.8,<3.14",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={
        **{f"irvis.{stage}": ["py.typed"] for stage in STAGES},
        "irvis.runtime": ["py.typed", "models/*"],
        "irvis.runtime.web": ["*.html", "*.js", "*.css"],
        "irvis.benchmarks": ["py.typed", "published.json"],
        "irvis.benchmarks.experiments": ["published_detection.json"],
        "irvis.benchmarks.gpu_check": ["*.sh", "runs.json"],
        "irvis.benchmarks.report": ["schema.json"],
        "irvis.benchmarks.roofline": ["devices.json", "efficiency.json"],
    },
    install_requires=[
        "numpy>=1.21,<3",  # frames are arrays
        "tqdm>=4.60,<5",  # progress of long work; pure Python
    ],
    extras_require={
        "cpu": [OPENCV, ONNXRUNTIME, AIOHTTP],
        "gpu": [OPENCV, ONNXRUNTIME.replace("onnxruntime", "onnxruntime-gpu"), AIOHTTP],
        "system": [ONNXRUNTIME, AIOHTTP, ROSBAGS],  # OpenCV, with GStreamer, is the system's python3-opencv
        "web": [AIOHTTP],
        # TensorRT and OpenCV (with GStreamer) come from JetPack, and pip's would shadow them.
        "jetson": [
            "numpy>=1.21,<1.24",  # TensorRT 8.5's binding uses np.bool, which 1.24 removed
            "pycuda>=2022.2,<2026",  # CUDA's driver API from Python: buffers, streams, events
            ONNXRUNTIME,  # on the CPU, the reference that every engine is compared with
            AIOHTTP,
            "jetson-stats>=4.2,<8",  # optional, reads power mode and clocks; AGPL, never imported unless present
        ],
        "workstation": [
            OPENCV,
            ONNXRUNTIME,
            AIOHTTP,
            ROSBAGS,
            "torch>=2.4,<3",  # the network and its training
            "tensorboard>=2.12,<3",  # curves and pictures of a training run, in the common format
            "matplotlib>=3.6,<4",  # curves and heat maps as pictures
            "scipy>=1.6,<2",  # exact, maintained transforms; scikit-image depends on it too
            "onnx>=1.16,<2",  # the format of the graph
            "onnxscript>=0.1,<1",  # torch's exporter imports it
            "safetensors>=0.4,<1",  # weights without code
            "scikit-image>=0.19,<1",  # SSIM as its authors define it
            "thop>=0.1.1.post2209072238,<1",  # the counter that produced the paper's multiply-adds
        ],
        "detection": [
            "transformers>=5.24,<6; python_version >= '3.11'",  # D-FINE, without torchvision, which must match torch
            "pycocotools>=2.0.7,<3",  # average precision as COCO defines it, from its authors
        ],
        "docs": [
            "sphinx>=8.2,<10; python_version >= '3.11'",  # pages and docstrings as HTML; the one most likely to last
            "myst-parser>=5,<6; python_version >= '3.11'",  # Markdown for Sphinx, as GitHub reads it
            "furo>=2024.8.6,<2028; python_version >= '3.11'",  # a theme without outside fonts or scripts
        ],
        "dev": [
            "pytest>=7,<10",
            "pytest-xdist>=3.2,<4",  # the suite on several cores; by pytest's own developers
            "hypothesis>=6,<7",  # properties over random frames and options
            ROSBAGS,
            "jsonschema>=4,<5",  # checks bench.py's report against its schema
            "ruff>=0.6,<1",
            "mypy>=1.8,<3",
        ],
    },
    entry_points={
        "console_scripts": [
            "irvis = irvis.runtime.cli:main",
            "build_engine.py = irvis.export.build_engine:main",
            "bench.py = irvis.benchmarks.bench:main",
        ]
    },
    keywords="image fusion, infrared, visible, distillation, TensorRT, Jetson, robotics, ROS",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(8, 14)),
        "Topic :: Multimedia :: Video :: Capture",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
)
