# Every verb sets up what it needs (utils/setup.py), then runs. Arguments: make test ARGS="tests/test_course.py -k doctor"
# THREADS=2 · COURSE_STATE=folder · COURSE_PYTHON=python3.12 · COURSE_GPU=1 are explained by `make help`.

export THREADS COURSE_STATE COURSE_PYTHON COURSE_GPU COURSE_CHROMIUM HW SUBMISSIONS OUT

# Some commands named python3 are shims that do not run, so the first one that runs is taken.
define in_python
@for python in "$$COURSE_PYTHON" python3 python3.11 python3.12 python3.13 /usr/bin/python3; do \
	if [ -n "$$python" ] && "$$python" -c "" 2>/dev/null; then exec "$$python" utils/setup.py $(1) $(ARGS); fi; \
done; \
echo "The course needs Python 3.11 to 3.13 and found none: sudo apt install python3 python3-venv" >&2; exit 1
endef

.PHONY: help lab test test-browser settings run made format bench grade book

help: ## the verbs
	@grep -E '^[a-z-]+: ##' Makefile | sed 's/: ## /	/'
	$(call in_python,help)

lab: ## JupyterLab on the first page
	$(call in_python,lab)

test: ## style, tests, every page as stored, and that what is made is fresh; all but test-browser
	$(call in_python,test)

test-browser: ## every widget moved in a real JupyterLab and Chromium, some minutes
	$(call in_python,test-browser)

settings: ## the pages under 1 and 2 threads and on older processors' instructions
	$(call in_python,settings)

run: ## run pages and store them; all, or ARGS="07 hw07"
	$(call in_python,run)

made: ## write every file that is made
	$(call in_python,made)

format: ## one style for all code
	$(call in_python,format)

bench: ## our code beside transformers, as ratios
	$(call in_python,bench)

grade: ## homework of a class: make grade HW=hw07 SUBMISSIONS=folder OUT=folder
	$(call in_python,grade)

book: ## the course as a static site, from the stored pages
	$(call in_python,book)
