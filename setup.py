"""The package: what is in it and what it needs.  constraints.txt pins versions, pyproject.toml sets the tools."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
DATA_SUFFIXES = {
    "bpf": ("*.c", "*.h", "Makefile", "build/*.o", "build/*.so"),
    "scenarios": ("*.yaml", "sweeps/*.yaml", "claims/*.yaml", "plugins/*", "traces/*"),
}

EVALUATE = ["onnx>=1.16", "scikit-learn>=1.4", "scipy>=1.10"]
TRAIN = ["torch>=2.2", "scikit-learn>=1.4", "scipy>=1.10"]  # a trained model is evaluated, for its card
SCALER = ["grpcio>=1.60", "protobuf>=4.25"]  # KEDA's external scaler, `balancer --scaler`
TEST = ["jsonschema>=4.20", "kubernetes-validate>=1.31", "pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10"]  # `make docs`
ONNX = ["onnxruntime>=1.17"]  # buffer: {policy: onnx}
PLOT = ["matplotlib>=3.8"]  # `plot -o`
DISTRIBUTED = ["distributed>=2026.8"]  # `sweep --scheduler`
BENCH = ["onnxruntime>=1.17", "simpy>=4.1"]
# The other OpenFlow framework.  It builds with setuptools before 68 only: `make ryu` does it, or
# `PIP_CONSTRAINT=.ci/ryu-build-constraints.txt pip install --use-pep517 --no-deps ryu==4.34` before this extra.
# Its eventlet trips over a pyOpenSSL of the distribution that is older than our cryptography, and tinyrpc from 1.1 on
# installs a top-level package named `tests`.
RYU = ["ryu==4.34", "tinyrpc<1.1", "pyopenssl>=25"]
CHECK = ["ruff>=0.6", "mypy>=1.11", "types-PyYAML"]


class BuildWithData(build_py):
    """Compiles ``bpf/`` where clang is there and copies ``bpf/`` and ``scenarios/`` to ``testbed/data/``."""

    def run(self) -> None:
        """Build the Python part, then the data beside it (an editable install reads both from the tree)."""
        super().run()
        if self.editable_mode:
            return
        if shutil.which("clang"):
            subprocess.run(["make", "-C", str(ROOT / "bpf")], check=True)
        for folder, patterns in DATA_SUFFIXES.items():
            for pattern in patterns:
                for source in sorted((ROOT / folder).glob(pattern)):
                    target = Path(self.build_lib, "testbed", "data", source.relative_to(ROOT))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)


def version() -> str:
    """Return the version the package states (read, not imported: nothing is installed yet)."""
    text = (ROOT / "testbed" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("testbed/__init__.py states no __version__")
    return found.group(1)


setup(
    # Not "testbed": on PyPI that name belongs to another project.
    name="predictive-buffer-testbed",
    version=version(),
    description="A network-emulation testbed for clusters of predictive buffers",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: System :: Emulators",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # controllers/ and topologies/ are installed as testbed.controllers and testbed.topologies (links in testbed/):
    # folders named like that are usual in the projects of users.
    packages=find_packages(include=["testbed", "testbed.*"]),
    package_data={
        "testbed": ["py.typed"],
        "testbed.commands": ["skeletons/*"],
        "testbed.forecaster": ["models/*"],
        "testbed.report": ["*.j2", "*.gz"],
    },
    # Mininet comes with the distribution: the package on PyPI lacks the `mnexec` program.
    install_requires=[
        "jinja2>=3.1",
        "msgpack>=1.0",
        "numpy>=1.26",
        "os-ken>=3.0",
        "plotly>=5.24",
        "prometheus-client>=0.20",
        "pyarrow>=15",
        "pydantic>=2.7",
        "pyroute2>=0.7",
        "pyyaml>=6",
        "rich>=13",
        "scapy>=2.5",
        "threadpoolctl>=3.2",
        "typer>=0.12",
    ],
    extras_require={
        "train": TRAIN,
        "evaluate": EVALUATE,
        "test": TEST,
        "bench": BENCH,
        "docs": DOCS,
        "onnx": ONNX,
        "plot": PLOT,
        "distributed": DISTRIBUTED,
        "check": CHECK,
        "ryu": RYU,
        "scaler": SCALER,
        "dev": [*TRAIN, *EVALUATE, *TEST, *BENCH, *CHECK, *DOCS, *PLOT, *DISTRIBUTED, *SCALER],
    },
    entry_points={"console_scripts": ["testbed=testbed.cli:main"]},
    cmdclass={"build_py": BuildWithData},
    zip_safe=False,
)
