# The few commands that people type; the build itself is in meson.build.
BUILD ?= build
PREFIX ?= /usr/local
MESON ?= meson
# Passed to meson setup, e.g. MESON_FLAGS=-Dwerror=true
MESON_FLAGS ?=

.PHONY: all deps demo test test-server sanitize bench install format check-format clean

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/install-deps.sh --check
	$(MESON) setup $(BUILD) --prefix=$(PREFIX) $(MESON_FLAGS)

deps:
	@tools/install-deps.sh

demo: deps
	@test -f $(BUILD)/build.ninja || $(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) odmoe
	@tools/demo.sh $(BUILD)/odmoe

# What hangs is ended after some minutes; a slow machine with much else to do must not be.
test: all
	$(MESON) test -C $(BUILD) --print-errorlogs --timeout-multiplier 10

# With real clients; makes a virtual environment from PyPI (tests/server/README.md).
test-server: all
	ODMOE=$(abspath $(BUILD))/odmoe tests/server/run.sh

sanitize:
	@tools/install-deps.sh --check
	tools/sanitize.sh

# Options of the script go into BENCH, e.g. BENCH="--quick --dir /var/tmp/models"
bench: $(BUILD)/build.ninja
	BUILD=$(abspath $(BUILD)) bench/run.sh $(BENCH)

install: all
	$(MESON) install -C $(BUILD)

# The sources that clang-format lays out: two files are generated.
FORMATTED = git ls-files '*.[ch]' ':!src/kernels/iq_tables.c' ':!src/text/unicode_versions.c'

format:
	$(FORMATTED) | xargs clang-format -i

check-format:
	$(FORMATTED) | xargs clang-format --dry-run -Werror

clean:
	rm -rf $(BUILD) build-ci build-asan build-tsan
