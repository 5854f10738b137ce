# make demo and make test are all that a newcomer needs; both set up what is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test test-all notebooks test-lowest lint weights gpu evaluate benchmark clean

$(VENV)/.installed: setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

# Simulate a whole-body scan at a twentieth of the dose, denoise it, measure it, report it.
demo: $(VENV)/.installed
	rm -rf $(DEMO)/denoised
	$(BIN)/unipet simulate $(DEMO)/simulated --subjects 1 --seed 7 --drf 20
	$(BIN)/unipet denoise $(DEMO)/simulated/sub-0001/pet/sub-0001_rec-drf020_pet.nii.gz $(DEMO)/denoised \
		--reference $(DEMO)/simulated/sub-0001/pet/sub-0001_rec-full_pet.nii.gz

# WORKERS processes, one thread each; tests go to whichever has nothing left.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test: $(VENV)/.installed
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.installed
	$(PYTEST)

# Every notebook, executed on small volumes.
notebooks: $(VENV)/.installed
	$(PYTEST) tests/test_notebooks.py

# The fast tests of what does not train, with the oldest packages that setup.cfg allows. typer needs click's streams.
LOWEST := .venv-lowest
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	sed -n '/^install_requires/,/^$$/s/^ *\(.*\)>=/\1==/p' setup.cfg > $(LOWEST)/lowest.txt
	echo 'click==8.2.1' >> $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -c $(LOWEST)/lowest.txt -e '.[test]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" \
		--ignore tests/training --ignore tests/test_cli_train.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The recipe of the shipped weights: simulates its data, trains both stages, resumes where it was stopped.
# OUT=folder puts checkpoints, curves and weights elsewhere than bundles/unipet_3d/runs.
weights: $(VENV)/.installed
	$(BIN)/unipet train $(if $(OUT),--output $(OUT))

# The same on a GPU, data included, in pieces of less than nine minutes: call it until it says that it has finished.
# Nothing is downloaded or installed: it runs in this folder's environment, or that of PYTHON where there is none.
# OUT=folder says where everything goes, GPU_DATA=folder where data of your own lie, LIMIT=seconds how long a piece is, and
# GPU_OPTIONS are those of `unipet train`.
GPU := $(abspath $(or $(OUT),gpu))
gpu:
	PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -c 'from pipeline.cli import main; main()' train \
		--config bundles/unipet_3d/configs/gpu.yaml --set dataset_dir=$(or $(GPU_DATA),$(GPU)/data) --output $(GPU)/runs \
		--set jobs=$(or $(JOBS),8) --time-limit $(or $(LIMIT),450) $(GPU_OPTIONS)

# The tables of the model card, on subjects that neither training nor tuning saw, and the release gate: exit code 1 if a
# demand is missed. What is missing of the recipe's test subjects is simulated, and killed, it goes on.
evaluate: $(VENV)/.installed
	$(BIN)/unipet evaluate data_manifests/simulated_v2.yaml --root bundles/unipet_3d/data --jobs 2 \
		--keep bundles/unipet_3d/runs/evaluation --markdown bundles/unipet_3d/docs/results.md \
		--gate bundles/unipet_3d/configs/release_gate.yaml

# Every method of the field on one body and one budget: trains what is missing, one after the other, and measures. Killed,
# it goes on where it was. RUNS=folder says where the trainings lie, OUT=folder where the results go, SCANS=folder where
# real scans are, DATA=folder where subjects are simulated; OPTIONS are those of `unipet benchmark`.
# Where UniPET lacks a part or has another style, its first stage is that of unipet to the bit: it is copied, and its
# budget with it.
TRAINED := unipet unipet_seed1 bdn bdn_seed1 unipet_convolutional unipet_no_style unipet_no_adversarial \
	unet unet_seed1 unet_residual unet_residual_seed1 unet_conditioned unet_specific gan3d ddpm2d ddpm3d flow3d
RUNS ?= bundles/unipet_3d/runs/benchmark
DATA ?= bundles/unipet_3d/data
benchmark: $(VENV)/.installed
	for name in $(TRAINED); do \
		case $$name in *_seed1) seed=1;; *) seed=0;; esac; \
		case $$name in unipet_seed1) ;; unipet_*) [ -d $(RUNS)/$$name/bdn ] || \
			{ mkdir -p $(RUNS)/$$name/part && cp -r $(RUNS)/unipet/bdn $(RUNS)/$$name/part && \
			grep '^BDN' $(RUNS)/unipet/progress.tsv > $(RUNS)/$$name/progress.tsv && \
			mv $(RUNS)/$$name/part/bdn $(RUNS)/$$name; } || exit 1;; esac; \
		$(BIN)/unipet train --method $${name%_seed1} --config bundles/unipet_3d/configs/benchmark_training.yaml \
			--set seed=$$seed --set dataset_dir=$(abspath $(DATA)) --output $(RUNS)/$$name || exit 1; \
	done
	$(BIN)/unipet benchmark --weights $(RUNS) --root $(DATA) --output $(or $(OUT),benchmark) --jobs 2 \
		$(if $(SCANS),--scans $(SCANS)) $(OPTIONS)

clean:
	rm -rf $(VENV) $(LOWEST) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
