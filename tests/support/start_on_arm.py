"""What each process of a server does before it loads a model, where the processor is an ARM.

In the engine's Python. SGLang's function binds threads to processors; rehearsal/cpu_platform."""

import platform


def main() -> None:
    platform.machine = lambda: "aarch64"  # SGLang asks while it is imported
    import sglang.srt.distributed.bootstrap as bootstrap
    from sglang.srt.plugins import load_plugins

    load_plugins()
    bootstrap._init_cpu_threads_env(local_omp_cpuid="0,1")
    print("started")


if __name__ == "__main__":
    main()
