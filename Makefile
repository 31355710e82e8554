# portkit: `make` lists what there is to do. Needs make and Python 3.11 or later; everything else goes into .venv, or
# into the virtual environment that is active.

PYTHON ?=
export PYTHON
ENV    := $(shell sh ci/setup-env --where)
BIN    := $(ENV)/bin
OUT    ?= out
# Two processes: what the reference machine has. Raise it on a larger one.
JOBS   ?= 2
# Every backend but cpu, which has targets of its own.
PORTS  ?= amd,c,cuda,metal,opencl,riscv,webgpu

# How many seeded faults are planted in each backend but cpu.
SAMPLE ?= 60

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-dev conform test lint types unit conform-standard conform-base conform-ports conform-lengths compute-ports mutants mutants-ports scaffold docs lines matrix publish-check bench clean

help:  ## list these targets
	@echo "portkit: port an accelerator by implementing twelve operations, and prove that the port conforms."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

conform: setup  ## set up, conform the cpu backend (tier smoke), say where the report is and what to type next
	@$(BIN)/portkit conform --backend cpu --tier smoke --out $(OUT)/cpu
	@[ "$(BIN)" != .venv/bin ] || [ -n "$$VIRTUAL_ENV" ] || \
		echo "To type portkit as above, activate its environment first:  . .venv/bin/activate"

test: lint types unit docs conform-standard conform-base conform-ports conform-lengths compute-ports mutants mutants-ports scaffold publish-check  ## run every check of this project

setup:  ## make the environment that `portkit` needs
	@sh ci/setup-env run

setup-dev:  ## the same, with the tools that tests, linters and documentation need
	@sh ci/setup-env dev

lint: setup-dev  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev  ## basedpyright, strict
	$(BIN)/basedpyright --pythonpath $(BIN)/python --warnings

unit: setup-dev  ## the unit tests, but those of the scaffold
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q --ignore tests/scaffold

conform-standard: setup-dev  ## conform the cpu backend, profile compute, tier standard
	$(BIN)/portkit conform --backend cpu --profile compute --tier standard --out $(OUT)/cpu-standard

conform-base: setup-dev  ## conform a device that has nothing but the base forms, level tensors, tier standard
	PYTHONPATH=. $(BIN)/portkit conform --backend tests.fakes.host:BASE_ONLY --profile compute --case tensors --out $(OUT)/base

conform-ports: setup-dev  ## conform the other backends, profile core, tier standard; those that cannot run here are skipped
	$(BIN)/portkit conform --backend $(PORTS) --skip-missing --profile core --tier standard --out $(OUT)/core

conform-lengths: setup-dev  ## conform riscv with vector registers of 128 and 512 bits too; 256 is what the others run with
	@for bits in 128 512; do \
		PORTKIT_RISCV_VLEN=$$bits $(BIN)/portkit conform --backend riscv --out $(OUT)/riscv-$$bits || [ $$? -eq 3 ] || exit 1; \
	done # 3: it cannot run here, and says why

compute-ports: setup-dev  ## the same, their tensors, tier smoke
	$(BIN)/portkit conform --backend $(PORTS) --skip-missing --profile compute --case tensors --tier smoke --out $(OUT)/compute

mutants: setup-dev  ## plant every seeded fault in the cpu backend; its recorded killers must find it
	$(BIN)/portkit mutants --backend cpu --replay

mutants-ports: setup-dev  ## plant a sample of the seeded faults in the other backends; those that cannot run here are skipped
	@for port in $$(echo $(PORTS) | tr , ' '); do \
		$(BIN)/portkit mutants --backend $$port --replay --sample $(SAMPLE) || [ $$? -eq 3 ] || exit 1; \
	done # 3: it cannot run here, and says why

scaffold: setup-dev  ## make a new port, install and conform it, break it in documented ways and see each found
	$(BIN)/python -m pytest -q tests/scaffold

docs: setup-dev  ## build the documentation site into site/, warnings as errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lines: setup-dev  ## count the lines of every backend, and of what they share
	@$(BIN)/python ci/lines.py

matrix: setup-dev  ## conform every backend that can run here, profile core, tier standard, and file the reports in registry/
	$(BIN)/portkit conform --backend all --skip-missing --profile core --tier standard --out $(OUT)/matrix
	@for run in $(OUT)/matrix/*/; do $(BIN)/portkit publish $$run --registry registry; done
	$(BIN)/portkit matrix registry --out $(OUT)/site

publish-check: setup-dev  ## run what docs/publishing.md shows: a key, a run, a signed report, verified, its matrix
	$(BIN)/python ci/publish_check.py

bench: setup-dev  ## measure start-up time, GEMM, tensors and the readers' robustness against their limits
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/tensors.py
	$(BIN)/python bench/gemm.py
	$(BIN)/python bench/fuzz_front_doors.py

clean:  ## remove what the other targets made, .venv and out/ included
	rm -rf .venv out site dist build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
