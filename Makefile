# Every target works in the environment that ./test sets up (.venv).
PYTHON = .venv/bin/python
SEEDS ?= 200
N ?= 10
PYTHON_FILES = src tests tools bench

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16
check:           ## linters, formatting, types, import contracts
	.venv/bin/ruff check $(PYTHON_FILES)
	.venv/bin/ruff format --check $(PYTHON_FILES)
	.venv/bin/mypy
	.venv/bin/lint-imports
pure:            ## tests that need neither root nor QEMU
	.venv/bin/pytest -m "not live and not long" tests
live:            ## tests on real QEMU, bridges and ldmds (root)
	.venv/bin/pytest -m "live and not long" -v tests
verify:          ## every interleaving of the two migration machines, to the whole bound (6 min)
	$(PYTHON) -m lodom.sim.explore
verify-quick:    ## the same with smaller budgets of faults (10 s)
	$(PYTHON) -m lodom.sim.explore --quick
sim:             ## the real engine on a virtual clock with faults: make sim SEEDS=1000
	$(PYTHON) -m lodom.sim $(SEEDS)
chaos:           ## random faults on real processes: make chaos N=50, the same again with SEED=n
	$(PYTHON) tests/chaos/run.py --n $(N) $(if $(SEED),--seed $(SEED))
chaos-short:     ## the fixed faults that ./test has
	$(PYTHON) tests/chaos/run.py --matrix short
sabotage:        ## planted defects, each must turn its test red
	$(PYTHON) tests/sabotage/run.py
rules:           ## every rule, where it lives, which tests keep it; then break each
	$(PYTHON) -m tests.rules_table
	$(PYTHON) -m tests.rules_mutate
	$(PYTHON) -m tests.rules_live
bench:           ## benchmarks; as root LIVE=1 moves guests too, LIBVIRT=1 only that, beside libvirt
	$(PYTHON) $(if $(LIBVIRT),bench/libvirt.py,bench/run.py $(if $(LIVE),--live))
long:            ## long tests: installations, ordinary guests, a database under load, ten hops
	.venv/bin/pytest -m long -v tests
test-long: verify long ## these and the whole matrix of faults (three hours)
	$(PYTHON) tests/chaos/run.py --matrix long
docs:            ## the generated reference
	$(PYTHON) tools/gen_reference.py docs/reference
.PHONY: help check pure live verify verify-quick sim chaos chaos-short sabotage rules bench long test-long docs
