# The verbs. Each sets up what it needs; none leaves anything running.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

SAM := AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 .venv-sam/bin/sam

# If it were set, each of hundreds of processes would compile our modules again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test check dist e2e bench bench-image base-image build server-image gpu-image gpu-check aws-check local lock protos soak

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: .venv/.done ## virtual environment with pinned, hashed requirements

.venv/.done: requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header

.venv-sam/.done: requirements/sam.txt
	$(PYTHON) -m venv .venv-sam
	.venv-sam/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/sam.txt
	touch $@

.venv-dist/.done: requirements/dist.txt
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dist.txt
	touch $@

# MLServer's workers do not start on a later uvloop.
PEERS := bentoml litserve mlserver onnxruntime tf2onnx 'tensorflow-cpu==2.21.*' 'uvloop<0.22'

.venv-peers/.done: requirements/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/peers.txt
	touch $@

lock: setup ## renew requirements/*.txt from pyproject.toml
	$(COMPILE) --upgrade --extra function --group dev -o requirements/dev.txt pyproject.toml
	$(COMPILE) --group function -c requirements/dev.txt -o requirements/function.txt
	$(COMPILE) --group container -c requirements/dev.txt -o requirements/container.txt
	echo 'tensorflow-text==2.21.*' | $(COMPILE) --no-deps -c requirements/dev.txt -o requirements/ops.txt -
	echo 'tensorflow[and-cuda]==2.21.*' | $(COMPILE) --no-config -o requirements/gpu.txt -
	$(COMPILE) --group compile -c requirements/dev.txt -o requirements/compile.txt
	$(COMPILE) --no-config --python-platform aarch64-manylinux_2_28 --group compile -c requirements/dev.txt -o requirements/compile-aarch64.txt
	echo protobuf | $(COMPILE) -c requirements/dev.txt -o layers/serving/python/requirements.txt -
	printf '%s\n' $(PEERS) | $(COMPILE) --upgrade -o requirements/peers.txt -
	echo aws-sam-cli | $(COMPILE) --upgrade -o requirements/sam.txt -
	printf '%s\n' check-jsonschema twine | $(COMPILE) --upgrade -o requirements/dist.txt -

protos: setup ## write protos/messages.binpb, from TensorFlow's and TensorFlow Serving's own
	$(BIN)/python layers/serving/build_protos.py

demo: setup ## serve the sample model, ask it for ten digits, stop it
	$(BIN)/python examples/mnist/demo.py

# One process more than there are cores: about a third of the time, tests wait for servers.
test: setup .venv-sam/.done .venv-dist/.done ## all tests but those that need Docker
	$(BIN)/pytest -q --numprocesses=$$(($$(nproc) + 1)) --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --ignore=tests/e2e

e2e: setup .venv-sam/.done ## the tests that need Docker; starts and stops an engine if none answers
	$(BIN)/pytest -q tests/e2e

dist: setup .venv-dist/.done ## dist/: the wheel and the source distribution, as a release publishes them
	$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --clear --out-dir dist
	.venv-dist/bin/twine check --strict dist/*

check: setup .venv-sam/.done .venv-dist/.done ## style, types, import arrows, templates, workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin layers
	.venv-dist/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/lint-imports --no-logo
	.venv-sam/bin/cfn-lint template.yaml infra/*.yaml
	$(SAM) validate --lint
	$(SAM) validate --lint --template infra/system.yaml
	$(SAM) validate --lint --template infra/model.yaml
	$(SAM) validate --lint --template infra/release.yaml
	$(SAM) validate --lint --template infra/gpu.yaml

bench-image: setup .venv-sam/.done ## size, cold start, memory and cost of the image (Docker)
	$(BIN)/python tests/benchmarks/run.py image $(BENCH_FLAGS)

aws-check: setup ## what we believe of AWS, shown on a real account: STACK=lambda-serving; DRY_RUN=1 prints, WRITE=1 runs all
	$(BIN)/python tests/aws_check.py $(or $(STACK),$(error Which stack? make aws-check STACK=lambda-serving)) \
		$(if $(DRY_RUN),--dry-run) $(if $(WRITE),--write)

base-image: ## lambda-base:bookworm from Debian's packages, where no image can be pulled
	images/base-image/build

build: .venv-sam/.done ## one image for each model (BASE_IMAGE=lambda-base:bookworm where none can be pulled)
	$(SAM) build $(if $(BASE_IMAGE)$(OP_PACKAGES),--parameter-overrides $(if $(BASE_IMAGE),BaseImage=$(BASE_IMAGE)) $(if $(OP_PACKAGES),OpPackages=$(OP_PACKAGES)))

SERVER_IMAGE = docker build --file images/Dockerfile $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) \
	$(if $(OP_PACKAGES),--build-arg OP_PACKAGES=$(OP_PACKAGES))

server-image: ## the server's image, in place of tensorflow/serving (BASE_IMAGE as above; OP_PACKAGES=tensorflow-text)
	$(SERVER_IMAGE) --target server --tag lambda-serving .

gpu-image: ## the same with CUDA, gigabytes of it
	$(SERVER_IMAGE) --target gpu --tag lambda-serving:gpu .

gpu-check: gpu-image setup ## TensorFlow finds NVIDIA's libraries in it; needs gcc, no GPU
	$(BIN)/python tests/gpu_image.py

local: .venv-sam/.done ## the deployed system at http://127.0.0.1:3000
	$(SAM) local start-api

soak: setup ## 200,000 requests and 50 reloads of one server: its answers, and its memory after them
	$(BIN)/python tests/benchmarks/run.py soak

# A quick run does without the other servers and ONNX Runtime, some gigabytes, if they are not there.
bench: setup $(if $(findstring --quick,$(BENCH_FLAGS)),,.venv-peers/.done) ## ours and the peers side by side; needs wrk (Debian: apt-get install wrk)
	$(BIN)/python tests/benchmarks/run.py $(BENCH_FLAGS)
