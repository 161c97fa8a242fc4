# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
# They work from any directory (`make -C taut demo`), and offline once .venv has been installed.

# The interpreter that .venv is made from: `make demo PYTHON=python3.12`. Empty: python3, or a newer one beside it.
PYTHON ?=
# Passed on to the program behind a target: `make test ARGS="-k kernel"`.
ARGS ?=

# The folder of this file, however deep the path and whatever blanks are in it.
ROOT := $(shell cd "$$(dirname "$$(printf '%s' '$(MAKEFILE_LIST)' | sed 's/^ *//')")" && pwd -P)
RUN := cd "$(ROOT)" && .venv/bin/python

# Another project's modules must not shadow ours.
unexport PYTHONPATH PYTHONHOME

.PHONY: help demo test test-all lint format bench bench-cold bench-loop bench-posteriordb bench-synthetic bench-evidence \
	bench-kinds bench-neural bench-neural-speed bench-peers bench-streaming lock clean setup
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' "$(ROOT)/Makefile" | awk -F '|' '{ printf "make %-18s %s\n", $$1, $$2 }'

demo: setup ## fit two hierarchical models and write demo/*.html
	@$(RUN) examples/demo.py $(ARGS)

test: setup ## run the tests but the slow ones; ruff is one of them
	@$(RUN) -m pytest -n auto --dist loadfile -m "not slow" $(ARGS)

test-all: setup ## run all tests, those of tests/slow.txt too
	@$(RUN) -m pytest -n auto --dist loadfile $(ARGS)

lint: setup ## ruff and pyright over the whole tree
	@$(RUN) -m ruff check . && .venv/bin/python -m ruff format --check . && .venv/bin/python -m pyright $(ARGS)

format: setup ## let ruff mend what it can
	@$(RUN) -m ruff check --fix . && .venv/bin/python -m ruff format .

bench: bench-cold bench-loop bench-posteriordb bench-synthetic bench-evidence bench-kinds ## the benchmarks below

bench-cold: setup ## eight schools from process start to verdict, beside NumPyro
	@$(RUN) -m benchmarks.cold $(ARGS)

bench-loop: setup ## what looking at the compiled loop of SVI costs
	@$(RUN) -m benchmarks.loop $(ARGS)

bench-posteriordb: setup ## real posteriors against their reference draws
	@$(RUN) -m benchmarks.posteriordb.run $(ARGS)

bench-synthetic: setup ## synthetic posteriors against their exact truth
	@$(RUN) -m benchmarks.synthetic.run $(ARGS)

bench-neural: setup ## autoencoders and networks of the papers; writes docs/reproductions.md (ARGS=--reduced: ten minutes)
	@$(RUN) -m benchmarks.neural.run $(ARGS)

bench-neural-speed: setup ## training steps of autoencoders and networks beside a bare JAX loop, and PyTorch where it is
	@$(RUN) -m benchmarks.neural.speed $(ARGS)

bench-peers: ## taut beside NumPyro, blackjax and PyMC, in .venv-bench; writes docs/benchmarks.md
	@PYTHON="$(PYTHON)" sh "$(ROOT)/tools/venv-bench.sh"
	@cd "$(ROOT)" && .venv-bench/bin/python -m benchmarks.peers.run $(ARGS)

bench-evidence: setup ## log evidence against anchors that are known
	@$(RUN) -m benchmarks.evidence.run $(ARGS)

bench-kinds: setup ## models of the kinds that people bring, against a long NUTS run
	@$(RUN) -m benchmarks.kinds.run $(ARGS)

bench-streaming: setup ## a logistic regression on ten million rows of a Parquet file, larger than its memory limit
	@$(RUN) -m benchmarks.streaming.run $(ARGS)

lock: ## write requirements.lock from pyproject.toml (ARGS=--upgrade takes newer versions)
	@PYTHON="$(PYTHON)" sh "$(ROOT)/tools/lock.sh" $(ARGS)

clean: ## remove .venv, caches and what the demo wrote
	@cd "$(ROOT)" && rm -rf .venv .venv-bench .pytest_cache .ruff_cache demo dist build \
		&& find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

setup:
	@PYTHON="$(PYTHON)" sh "$(ROOT)/tools/venv.sh"
