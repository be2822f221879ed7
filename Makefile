# The commands of the README. Each makes .venv first where it is missing or older than settings.ini.
# ARGS are handed on: make up ARGS="--stack cpu". What a person reads stands here in English, then in Chinese.
SHELL := /bin/sh
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
PACKAGE := @PYTHON='$(PYTHON)' sh tools/environment.sh package
DEV := @PYTHON='$(PYTHON)' sh tools/environment.sh dev

.DEFAULT_GOAL := help
.PHONY: help up down test quick prove arm npu lab zh docs bench record browser clean

help: ## this list ## 显示本列表
	@sed -n "s/^\([a-z]*\): ## $$(sh tools/said.sh '\(.*\) ## .*' '.* ## \(.*\)')/  make \1\t\2/p" Makefile | expand -t 18

up: ## set up everything and end with a reply from a running server ## 一次完成全部部署，最后由运行中的服务给出一条回答
	$(PACKAGE)
	@$(BIN)/qwen-npu up $(ARGS)

down: ## stop what `make up` started ## 停止 `make up` 启动的服务
	@if [ -x $(BIN)/qwen-npu ]; then $(BIN)/qwen-npu down $(ARGS); else sh tools/said.sh "Nothing runs from here: there is no .venv." "没有从这里启动的服务：.venv 不存在。"; fi

test: ## every chapter, the tests, the docs and their links ## 运行各章、全部测试、文档及其链接检查
	$(DEV)
	@$(BIN)/python tools/run_tests.py $(ARGS)

quick: ## style, sync, plain pages and the fast tests: needs no engine ## 检查格式、同步和普通页面，运行快速测试；不需要推理引擎
	$(DEV)
	@$(BIN)/python tools/run_tests.py --quick $(ARGS)

prove: ## the long proofs in groups (ARGS="--only walk"; "--list" names them) ## 分组运行耗时的验证（ARGS="--only walk"；"--list" 列出各组）
	$(DEV)
	@$(BIN)/python tools/run_tests.py --prove $(ARGS)

arm: ## on an x86_64 Debian, as root: the same on an emulated aarch64 processor (ARGS: a command to run there instead) ## 在 x86_64 的 Debian 上以 root 运行：在模拟的 aarch64 处理器上做同样的事（ARGS：改为在其中运行的命令）
	@sh tools/arm.sh $(ARGS)

npu: ## on an Ascend server: the walk and the chapters' NPU cells, as a record that may be sent ## 在昇腾服务器上运行：完整走一遍，并运行各章的 NPU 单元格，生成一份可以提交的记录
	$(DEV)
	@$(BIN)/python tools/npu.py $(ARGS)

lab: ## open the chapters in JupyterLab ## 在 JupyterLab 中打开各章
	$(DEV)
	@$(BIN)/python -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir=nbs --LabApp.default_url=$$(sh tools/said.sh /lab /lab/tree/zh/index.ipynb) $$([ "$$(id -u)" = 0 ] && echo --allow-root) $(ARGS)

zh: ## make the Chinese pages of their texts, and list what has fallen behind ## 由译文生成中文页面，并列出落后于英文的单元格
	$(DEV)
	@$(BIN)/python tools/translate.py $(ARGS)

docs: ## build the docs site and serve it on this machine ## 构建文档网站，并在本机提供访问
	$(DEV)
	@$(BIN)/python tools/build_docs.py --serve $(ARGS)

bench: ## the figures: start-up, speed, memory ## 测量各项指标：启动时间、速度、内存
	$(DEV)
	@for script in tests/bench/bench_*.py; do echo "== $$script"; $(BIN)/python $$script $(ARGS) || exit 1; done

record: ## run the notebooks and keep their outputs; then the panel's picture, README.md and README.zh.md ## 运行 notebook 并保留输出；再更新面板截图、README.md 和 README.zh.md
	$(DEV)
	@$(BIN)/python tools/run_notebooks.py $(ARGS)
	@$(BIN)/python -m pytest -q tests/browser/test_panel.py -k from_check && cp tests/screenshots/panel.png nbs/faces/panel.png
	@$(BIN)/python tools/build_readme.py

browser: ## install Chromium for the browser tests (Debian and Ubuntu, as root) ## 安装浏览器测试所需的 Chromium（Debian 和 Ubuntu，需 root）
	@sh tools/browser.sh

clean: ## delete .venv and what the tools made; models and engines stay in $QWEN_NPU_HOME ## 删除 .venv 和各工具生成的文件；模型和推理引擎保留在 $QWEN_NPU_HOME
	@rm -rf .venv .venv.lock _proc _docs build dist *.egg-info .pytest_cache .ruff_cache .hypothesis tests/screenshots nbs/nbdev.yml
	@find . -name __pycache__ -prune -exec rm -rf {} +
	@sh tools/said.sh "Models, engines and logs are elsewhere: qwen-npu remove frees them." "模型、推理引擎和日志不在这里：用 qwen-npu remove 释放。"
