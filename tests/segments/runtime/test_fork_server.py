"""
Programs that are forked are what they are when they are executed.

Each test runs a starter of its own, for a process of tests has threads and children.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_STARTER = """
import asyncio, json, os, signal, sys
from segments.runtime.fork_server import ForkServer

async def run(fork_server):
{body}

asyncio.run(run(ForkServer(["{program}"]{options})))
"""

_PROGRAM = """
import atexit, json, os, sys, threading, time

IMPORTED_BY = os.getpid()

def main():
    asked, asked_by = json.loads(sys.argv[1]), os.getpid()
    if "write" in asked:
        os.write(asked["write"], json.dumps({
            "pid": os.getpid(), "ppid": os.getppid(), "sid": os.getsid(0), "cwd": os.getcwd(),
            "env": os.environ.get("MARK"), "path": "PATH" in os.environ,
            "imported_by": IMPORTED_BY, "title": open("/proc/self/cmdline").read().strip("\\0"),
            "fds": [fd for fd in range(200) if os.path.exists(f"/proc/self/fd/{fd}")],
        }).encode())
    atexit.register(lambda: print("at exit", flush=True))
    threading.Thread(target=lambda: (time.sleep(0.1), print("thread", flush=True))).start()
    if "orphan" in asked and not os.fork():
        while os.getppid() == asked_by:
            time.sleep(0.001)
        os.write(asked["orphan"], b"%d" % os.getppid())
        os._exit(0)
    if asked.get("raise"):
        raise RuntimeError("as it came")
    if asked.get("wait"):
        print("waits", flush=True)
        time.sleep(60)
    sys.exit(asked.get("exit"))
"""

PROGRAM = "program_of_a_test"


def argv(tmp_path: Path, body: str, options: str = "") -> list[str]:
    (tmp_path / f"{PROGRAM}.py").write_text(_PROGRAM)
    body = textwrap.indent(textwrap.dedent(body), "    ")
    return [sys.executable, "-c", _STARTER.format(body=body, program=PROGRAM, options=options)]


def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])}


def run(tmp_path: Path, body: str, options: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        argv(tmp_path, body, options), env=environment(tmp_path), cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_program_is_our_child_with_what_it_was_given(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        f"""
        ours, its = os.pipe()
        its = os.dup2(its, 77)
        process = await fork_server.start(
            "{PROGRAM}", ['{{"write": 77}}'], env={{"MARK": "x"}}, pass_fds=[77])
        print(await process.wait(), process.pid, os.getpid())
        print(os.read(ours, 4096).decode())
        """,
    )

    *_, numbers, said = done.stdout.splitlines()
    status, pid, starter = map(int, numbers.split())
    told = json.loads(said)
    assert status == 0, done.stderr
    assert told["pid"] == told["sid"] == pid
    assert told["ppid"] == told["imported_by"] == starter
    assert (told["env"], told["path"], told["cwd"]) == ("x", False, str(tmp_path))
    assert told["fds"] == [0, 1, 2, 77]
    assert told["title"].endswith(f' -m {PROGRAM} {{"write": 77}}')


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [('{"exit": 0}', 0, ""), ('{"exit": 3}', 3, ""), ('{"exit": "no"}', 1, "no\n"),
     ('{"exit": null}', 0, ""), ('{"raise": 1}', 1, "RuntimeError: as it came\n")],
)  # fmt: skip
def test_program_ends_as_the_interpreter_does(
    tmp_path: Path, asked: str, status: int, said: str
) -> None:
    done = run(
        tmp_path,
        f"""
        process = await fork_server.start("{PROGRAM}", [{asked!r}])
        print("status", await process.wait())
        """,
    )

    assert done.stdout.splitlines() == ["thread", "at exit", f"status {status}"]
    assert done.stderr.endswith(said)


def test_program_that_is_signalled_tells_by_which(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        f"""
        process = await fork_server.start("{PROGRAM}", ['{{"wait": 1}}'])
        process.kill()
        print(await process.wait(), process.returncode)
        process.terminate()
        """,
    )

    assert done.stdout.endswith("-9 -9\n"), done.stderr


def test_end_of_the_fork_server_ends_no_program_and_the_next_is_executed(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        f"""
        first = await fork_server.start("{PROGRAM}", ['{{"wait": 1}}'])
        children = open(f"/proc/self/task/{{os.getpid()}}/children").read().split()
        (server,) = set(children) - {{str(first.pid)}}
        os.kill(int(server), signal.SIGKILL)
        os.waitpid(int(server), 0)
        second = await fork_server.start("{PROGRAM}", ['{{"wait": 1}}'])
        print("alive", first.returncode, os.kill(first.pid, 0))
        for process in (first, second):
            process.kill()
            print(type(process).__name__, await process.wait())
        """,
    )

    programs_say = {"waits", "thread"}
    *_, alive, one, other = [x for x in done.stdout.splitlines() if x not in programs_say]
    assert (alive, one, other) == ("alive None None", "_Forked -9", "Process -9"), done.stderr


def test_fork_server_of_one_program_becomes_it_and_the_next_is_executed(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        f"""
        children = f"/proc/self/task/{{os.getpid()}}/children"
        server = open(children).read().split()
        readable, writable = os.pipe()
        first = await fork_server.start(
            "{PROGRAM}", ['{{"wait": 1, "write": %d}}' % writable], pass_fds=[writable]
        )
        print("same", open(children).read().split() == server == [str(first.pid)])
        told = json.loads(os.read(readable, 1 << 16))
        print("ours", told["ppid"] == told["imported_by"] == os.getpid())
        print("alone", told["sid"] == first.pid)
        first.kill()
        print(type(first).__name__, await first.wait())
        second = await fork_server.start("{PROGRAM}", ['{{"wait": 1}}'])
        second.kill()
        print(type(second).__name__, await second.wait())
        """,
        ", becomes_program=True",
    )

    told = [line for line in done.stdout.splitlines() if line not in {"waits", "thread", "at exit"}]
    assert told == ["same True", "ours True", "alone True", "_Forked -9", "Process -9"], done.stderr


def test_program_whose_start_was_given_up_is_ended(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        f"""
        starting = asyncio.create_task(fork_server.start("{PROGRAM}", ['{{"wait": 1}}']))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait(asyncio.all_tasks() - {{asyncio.current_task()}})
        while len(open(f"/proc/self/task/{{os.getpid()}}/children").read().split()) > 1:
            await asyncio.sleep(0.01)
        print("gone", starting.cancelled())
        """,
    )

    assert done.stdout.endswith("gone True\n"), done.stderr


def test_orphan_of_a_program_is_not_adopted_by_the_starter_which_would_never_wait_for_it(
    tmp_path: Path,
) -> None:
    done = run(
        tmp_path,
        f"""
        ours, its = os.pipe()
        process = await fork_server.start(
            "{PROGRAM}", [f'{{{{"orphan": {{its}}}}}}'], pass_fds=[its])
        await process.wait()
        print(os.getpid(), os.read(ours, 100).decode())
        """,
    )

    starter, adopted_by = done.stdout.splitlines()[-1].split()
    assert adopted_by != starter, done.stderr


def test_program_whose_end_can_not_be_watched_is_ended(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        f"""
        import resource
        free, (_, most) = os.dup(0), resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
        try:
            await fork_server.start("{PROGRAM}", ['{{"wait": 1}}'])
        except OSError as error:
            print(error.strerror)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        print(len(open(f"/proc/self/task/{{os.getpid()}}/children").read().split()))
        """,
    )

    said, children = [line for line in done.stdout.splitlines() if line != "waits"]
    assert said == "Too many open files", done.stderr
    assert children == "1", "the fork server alone"


async def test_nothing_outlives_a_starter_that_is_killed(tmp_path: Path) -> None:
    body = f"""
    process = await fork_server.start("{PROGRAM}", ['{{"wait": 1}}'])
    print(process.pid, flush=True)
    await process.wait()
    """
    starter = await asyncio.create_subprocess_exec(
        *argv(tmp_path, body), env=environment(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout is not None
    said = {(await starter.stdout.readline()).strip() for _ in range(2)}
    (pid,) = said - {b"waits"}
    starter.send_signal(signal.SIGKILL)
    await starter.wait()

    async with asyncio.timeout(20):
        while Path(f"/proc/{int(pid)}").exists():  # noqa: ASYNC110 - a process of another has no event
            await asyncio.sleep(0.01)
