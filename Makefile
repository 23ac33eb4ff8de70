# Thin: each target is one readable line. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
# The interpreter that the tools are installed for.
PYTHON ?= python3
PLAY := $(VENV)/bin/ansible-playbook
# Options for the playbook: make up ARGS='-e fe_replicas=5'
ARGS ?=
# One Molecule scenario in full: make test SCENARIO=byo
SCENARIO ?=
# The gate, and in full the scenarios that the change since a revision concerns: make test CHANGED=main
CHANGED ?=
# One service: make logs SERVICE=fe, make shell SERVICE=be
SERVICE ?=
# Folder of the rendered files, instead of the settings' (ARGS): make logs STACK_DIR=~/.local/share/shop
STACK_DIR ?=
# What looks into a deployment takes the same ARGS as make up.
RUNNING = @PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python bin/running.py $@ '$(SERVICE)' '$(STACK_DIR)' $(ARGS)
# Nothing of the caller's environment leads the tools to another project or other files (module_utils/stack_environment.py).
unexport $(filter BUILDKIT_% BUILDX_% COMPOSE_% DOCKER_API_% DOCKER_BUILDKIT DOCKER_CONTENT_% DOCKER_DEFAULT_% MYSQL_% RESTIC_%,$(.VARIABLES))
# How often make bench-ha measures everything.
ROUNDS ?= 1

# Everything is found from the checkout: make -C goes there, make -f does not.
ifeq ($(wildcard docker-compose.yml.j2),)
$(error Run make in the checkout: make -C '$(patsubst %/Makefile,%,$(realpath $(lastword $(MAKEFILE_LIST))))' $(MAKECMDGOALS))
endif

# Settings are the playbook's: as variables of make nobody would read them.
READ := VENV PYTHON ARGS SCENARIO CHANGED SERVICE STACK_DIR ROUNDS
UNREAD := $(foreach name,$(filter-out $(READ),$(.VARIABLES)),$(if $(filter command,$(origin $(name))),$(name)))
ifneq ($(strip $(UNREAD)),)
# Targets whose recipe has a variable.
WITH = $(shell sed -n '/^[a-z-]*:/{s/:.*//;h;};/[$$]($(1))/{x;p;x;}' $(lastword $(MAKEFILE_LIST)))
GOALS := $(or $(MAKECMDGOALS),up)
GOAL := $(firstword $(filter $(call WITH,ARGS) $(call WITH,RUNNING),$(GOALS)))
# What a shell would take for more than a word goes into a file.
SPECIAL := ' " { } [ ] ( ) < > ; & | * ? ! ~ ` \ $$ \#
ODD = $(word 2,$(value $(1)))$(strip $(foreach sign,$(SPECIAL),$(findstring $(sign),$(value $(1)))))
GIVEN := $(if $(findstring ',$(ARGS))$(findstring ",$(ARGS)),,$(ARGS))
FILED := $(if $(strip $(foreach name,$(UNREAD),$(call ODD,$(name)))),-e @FILE)
FORM := $(strip $(GIVEN) $(foreach name,$(UNREAD),$(if $(call ODD,$(name)),,-e $(name)=$($(name)))) $(FILED))
HINT := $(if $(FILED), (in FILE as in group_vars))
$(error $(firstword $(UNREAD)) is no variable of this Makefile$(if $(GOAL),; give settings to the playbook: \
make $(GOAL) ARGS='$(FORM)'$(HINT), and $(firstword $(GOALS)) takes no settings))
endif

help: ## List the targets
	@sed -nE 's/^##@ (.*)/\n\1/p; s/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

$(VENV)/.ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "make needs Python 3.11 or later, and $(PYTHON)" \
		"is none: install one (on Ubuntu 22.04: sudo apt-get install python3.11-venv) and name it: make $(or $(MAKECMDGOALS),up) PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "make needs the module venv of $(PYTHON):" \
		"sudo apt-get install $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; exit 1; }
	@echo "Installing ansible into $(VENV); this takes about half a minute."
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	@echo "Installing linters and test tools into $(VENV)."
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

##@ Deploy

up: $(VENV)/.ready ## Deploy the stack, the engine included where there is none
	$(PLAY) playbooks/bootstrap.yml playbooks/site.yml $(ARGS)

check: $(VENV)/.ready ## Show what `make up` would change
	$(PLAY) playbooks/site.yml --check --diff $(ARGS)

render: $(VENV)/.ready ## Write the Compose file and every configuration to .render, without an engine
	$(PLAY) playbooks/render.yml $(ARGS)

rollback: $(VENV)/.ready ## Bring front end and back end of the release before this one back
	$(PLAY) playbooks/rollback.yml $(ARGS)

down: $(VENV)/.ready ## Stop the stack and keep its data
	$(PLAY) playbooks/teardown.yml $(ARGS)

remove: $(VENV)/.ready ## Remove the stack with its data, images and files
	$(PLAY) playbooks/teardown.yml --extra-vars remove_data=true $(ARGS)

##@ Look

status: $(VENV)/.ready ## Say how the stack is: containers, load balancers, watchdog, releases
	@$(PLAY) playbooks/status.yml $(ARGS)

logs: $(VENV)/.ready ## Follow what the services print (SERVICE=fe: one of them)
	$(RUNNING)

shell: $(VENV)/.ready ## Open a shell in a container (SERVICE=fe, be, db ...)
	$(RUNNING)

mysql: $(VENV)/.ready ## Open the database's client as the application's user
	$(RUNNING)

audit: $(VENV)/.ready-dev ## Examine the running stack: TLS, containers, networks, secrets and where they could show, files
	PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python tests/audit.py

##@ Develop

dev: $(VENV)/.ready ## Deploy the stack for development: code mounted from here, running as you
	$(PLAY) playbooks/site.yml --extra-vars app_mode=development $(ARGS)

debug: $(VENV)/.ready ## One replica serves in this terminal, and breakpoint() stops it here (SERVICE=be)
	$(RUNNING)

app-test: $(VENV)/.ready ## Run the tests of data/fe and data/be in containers (SERVICE=fe: one of them)
	$(RUNNING)

##@ Keep the data

backup: $(VENV)/.ready ## Take a backup of the database while it runs
	$(PLAY) playbooks/backup.yml $(ARGS)

restore: $(VENV)/.ready ## Bring a backup back (ARGS='-e confirm=webstack -e restore_until=...')
	$(PLAY) playbooks/restore.yml $(ARGS)

rotate: $(VENV)/.ready ## Replace the passwords of the database and the certificate while requests go on
	$(PLAY) playbooks/rotate.yml $(ARGS)

##@ Work on the project

lint: $(VENV)/.ready-dev ## Run ansible-lint, yamllint and ruff
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" tests/lint

test: $(VENV)/.ready-dev ## Prove every promise once: lint, unit tests, one host, a Swarm; beside a running stack
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" tests/run $(if $(CHANGED),--changed $(CHANGED)) $(SCENARIO)

test-all: $(VENV)/.ready-dev ## Run every test of every scenario, the long ones too
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" tests/run --all

test-mutations: $(VENV)/.ready-dev ## Break the project in a copy, piece by piece, and expect that the tests notice
	$(VENV)/bin/python tests/mutations

docs: $(VENV)/.ready ## Write the generated tables of docs/ again
	$(VENV)/bin/python tests/docs.py --write

venv: $(VENV)/.ready ## Install the pinned tools into .venv

##@ Measure

bench: $(VENV)/.ready ## Time runs without changes and a first deployment against plain Compose, and count their lines
	$(VENV)/bin/python tests/bench.py

bench-lb: $(VENV)/.ready ## Measure one hop through HAProxy, nginx and Caddy, and what fe-lb adds to the whole way
	$(VENV)/bin/python tests/bench_lb.py

bench-overload: $(VENV)/.ready-dev ## Offer more requests than the stack can serve, beside nginx and the stack without limits
	$(VENV)/bin/python tests/bench_overload.py

bench-ha: $(VENV)/.ready-dev ## Measure what changes and faults cost the requests, beside plain Compose (ROUNDS=3: so often)
	$(VENV)/bin/python tests/bench_ha.py --rounds $(ROUNDS)

bench-monitoring: $(VENV)/.ready-dev ## Measure what monitoring costs at 20 containers of the application
	$(VENV)/bin/python tests/bench_monitoring.py

.PHONY: help up dev logs shell mysql debug app-test down remove status rollback backup restore rotate check render venv lint test test-all audit test-mutations docs bench bench-lb bench-ha bench-overload bench-monitoring
