"""Commands in processes forked from a server that has imported torch, Lightning and Hydra already.

A fresh interpreter spends seconds on imports; a forked child spends none. The server itself runs nothing: it holds one
thread, so a fork copies a whole process. The child takes over what a new process gets from its caller, runs the module
as ``python -m`` does and ends as an interpreter ends.

Linux only: the server counts its threads in ``/proc``.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

# Each module that commands import, except wandb, which reads the environment at import. Lightning imports
# huggingface_hub where transformers is installed.
IMPORTED = ("hydra", "torch", "lightning.pytorch", "torchmetrics", "sklearn.datasets", "matplotlib.figure",
            *(f"stkd_lightning.commands.{name}"
              for name in ("train", "evaluate", "predict", "export", "report", "cache")),
            "stkd_lightning.losses", "stkd_lightning.models", "stkd_lightning.data")  # fmt: skip
# A process reads these before its first line, or a library of IMPORTED reads them at import.
READ_AT_IMPORT = ("CUDA_", "HF_", "HOME", "HYDRA_", "LANG", "LC_", "LD_", "LOCAL_RANK", "MKL_", "MPL", "OMP_",
                  "OPENBLAS_", "PYTHON", "RANK", "SLURM_", "TORCH_", "XDG_")  # fmt: skip
LONGEST_REQUEST = 1 << 17  # bytes


class ForkServer:
    """The side of a server's caller: starts the server and runs one module at a time in its children.

    Raises:
        RuntimeError: the server did not start, or its imports wrote to stderr.
    """

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._connection, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with end, tempfile.TemporaryFile("w+") as errors:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(end.fileno())], pass_fds=[end.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
            end.close()
            ready = self._connection.recv(LONGEST_REQUEST)
            errors.seek(0)
            words = errors.read()
        if not ready or words:
            self.close()
            raise RuntimeError(f"the fork server did not start without a word: {words}")

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Return whether a child of the server reads all of an environment that a fresh interpreter reads."""
        changed = dict(self._environment.items() ^ environment.items())
        return not any(name.startswith(READ_AT_IMPORT) for name in changed)

    def run(
        self, module: str, arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m module arguments`` in a child.

        Args:
            module: a module's name.
            arguments: for ``sys.argv``.
            cwd: the child's working directory.
            environment: all variables of the child.
            timeout: seconds after which the child is killed.

        Returns:
            The exit code (minus the signal's number for a killed child) and the output, as ``subprocess.run`` does.

        Raises:
            subprocess.TimeoutExpired: the child was killed.
        """
        request = {"module": module, "arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            socket.send_fds(self._connection, [json.dumps(request).encode()], [out.fileno(), errors.fileno()])
            answer = self._connection.recv(LONGEST_REQUEST)
            if not answer:
                raise RuntimeError("the fork server has ended: it holds one thread only with OMP_NUM_THREADS=1")
            pid = int(answer)
            self._connection.settimeout(timeout)
            try:
                code = int(self._connection.recv(LONGEST_REQUEST))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)  # the server keeps the pid until it is told that its end was heard
                code = None
            finally:
                self._connection.settimeout(None)
            if code is None:
                self._connection.recv(LONGEST_REQUEST)
            self._connection.send(b"heard")
            out.seek(0)
            errors.seek(0)
            if code is None:
                raise subprocess.TimeoutExpired([module, *arguments], timeout, out.read(), errors.read())
            return subprocess.CompletedProcess([module, *arguments], code, out.read(), errors.read())

    def close(self) -> None:
        """End the server."""
        self._connection.close()
        self._process.wait()


def serve(connection: socket.socket) -> str:
    """Fork a child for each request; return only in a child, with the name of the module that it runs."""
    del sys.path[0]  # the folder of this file
    for module in IMPORTED:
        import_module(module)
    gc.collect()
    gc.freeze()  # a collection would write to memory that children share, and so copy it
    connection.send(b"ready")
    while True:
        content, descriptors, *_ = socket.recv_fds(connection, LONGEST_REQUEST, 2)
        if not content:
            sys.exit()
        threads = os.listdir("/proc/self/task")
        assert len(threads) == 1, f"a fork would lose {len(threads) - 1} threads"
        pid = os.fork()
        if pid == 0:
            connection.close()
            return become(json.loads(content), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(str(pid).encode())
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        connection.send(str(code).encode())
        connection.recv(LONGEST_REQUEST)
        os.waitpid(pid, 0)


def become(request: dict[str, Any], descriptors: Sequence[int]) -> str:
    """Give this process what a new one gets from its caller; return the module that it runs."""
    for descriptor, standard in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    sys.path.insert(0, os.getcwd())
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # What an import took from the server's environment, its folder, or chance.
    tempfile.tempdir = None
    import_module("multiprocessing.process").ORIGINAL_DIR = os.getcwd()
    import_module("numpy").random.seed()
    import_module("torch").default_generator.seed()
    return request["module"]


def run(module: str) -> NoReturn:
    """Run a module and end as an interpreter ends, except that modules are not torn down, which copies their memory."""
    code, interrupted = 0, False
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        code, interrupted = 1, isinstance(error, KeyboardInterrupt)
        sys.excepthook(type(error), error, error.__traceback__)
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError as error:
        print(f"Exception ignored in: {sys.stdout}\n{type(error).__name__}: {error}", file=sys.stderr)
        code = 120
    sys.stderr.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    run(serve(socket.socket(fileno=int(sys.argv[1]))))
