"""A forked program behaves as one that Python was started for."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .. import programs

SCRIPT = "import sys\nprint(__name__, sys.argv, sys.path[0])\n"


@pytest.mark.parametrize(
    "code",
    [
        "import os, sys; print(sys.argv, os.getcwd(), os.environ['WORD'], 'OTHER' in os.environ, sys.path[0])",
        "import sys; print(repr(sys.stdin.read()), sys.stdout.encoding, sys.stdout.isatty(), sys.stderr.errors)",
        "import signal as s; print([s.getsignal(number) for number in (s.SIGINT, s.SIGTERM, s.SIGCHLD)])",
        "import os; print(sorted(os.listdir('/proc/self/fd')))",
        "import os; print(os.getpgid(0) == os.getpgid(os.getppid()))",
        "import sys; print('told'); sys.exit(3)",
        "import sys; sys.exit('the reason')",
        "raise ValueError('the reason')",
        "raise KeyboardInterrupt",
        "import os, signal; print('flushed', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
        "import atexit, sys; atexit.register(print, 'at the end'); sys.exit(1)",
        "import threading; threading.Timer(0.01, print, ['a thread is waited for']).start()",
        "import word; print(word.SAID)",
        "import multiprocessing as m; p = m.get_context('spawn').Process(target=print, args=('there',)); p.start()",
    ],
)
def test_it_ends_and_prints_as_when_python_is_started(code: str, tmp_path: Path) -> None:
    (tmp_path / "word.py").write_text("SAID = 'from PYTHONPATH'")
    (tmp_path / "sitecustomize.py").write_text("import os; os.write(1, b'customised\\n')")
    environment = {name: value for name, value in os.environ.items() if name != "OTHER"}
    environment |= {"WORD": "one", "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    options = {"cwd": tmp_path, "env": environment, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    forked, started = (
        run([sys.executable, "-c", code, "a b", "c"], **options) for run in (programs.run, subprocess.run)
    )
    assert forked.returncode == started.returncode
    # Two processes that a program starts print in either order.
    assert sorted(forked.stdout.splitlines()) == sorted(started.stdout.splitlines())
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]


def test_a_module_and_a_script_are_run_as_python_runs_them(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    for words in (["-m", "script", "x"], ["script.py", "x"]):
        forked, started = (
            run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
            for run in (programs.run, subprocess.run)
        )
        assert forked.stdout and (forked.returncode, forked.stdout) == (started.returncode, started.stdout)


def test_it_hears_signals_and_may_have_a_session_of_its_own() -> None:
    code = "import time\ntry: print('up', flush=True); time.sleep(1000)\nexcept KeyboardInterrupt: print('heard')"
    command = [sys.executable, "-c", code]
    with programs.Program(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        assert process.poll() is None and os.getsid(process.pid) == process.pid
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate() == ("heard\n", None) and process.returncode == 0


def test_a_signal_is_not_lost_however_early_it_comes() -> None:
    with programs.Program(
        [sys.executable, "-c", "import time; time.sleep(1000)"], stderr=subprocess.DEVNULL
    ) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT


def test_one_that_does_not_end_in_time_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        programs.run([sys.executable, "-c", "import time; time.sleep(1000)"], timeout=0.2)


def test_waiting_for_what_an_ended_process_will_not_do_fails() -> None:
    with (
        programs.Program([sys.executable, "-c", "raise SystemExit(4)"]) as process,
        pytest.raises(AssertionError, match="ended with 4 before"),
    ):
        programs.wait_until(lambda: False, process)


def test_options_that_a_fork_does_not_have_are_refused() -> None:
    with pytest.raises(AssertionError):
        programs.run([sys.executable, "-c", ""], umask=0o77)
