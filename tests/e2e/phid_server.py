"""A phid server under test: starts the real program, waits for its ready line, stops it and checks how it ended."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PHID = os.environ.get("PHID_BIN", str(ROOT / "build" / "phid"))
TINY = ROOT / "tests" / "models" / "tiny.gguf"
SMOLLM2 = pathlib.Path(os.environ.get("PHID_SMOLLM2", str(ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")))
# Sanitizers and valgrind make everything slower; every deadline below is multiplied by this.
PATIENCE = float(os.environ.get("PHID_TEST_PATIENCE", "1"))


class Server:
    def __init__(self, model, *args, ready_s=60):
        self.process = subprocess.Popen(
            [PHID, "serve", "-m", str(model), "--port", "0", *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        self.lines = []
        self.url = None
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(ready_s * PATIENCE) or self.url is None:
            self.process.kill()
            raise RuntimeError("the server did not become ready:\n" + "".join(self.lines[-40:]))
        self.host, port = re.match(r"http://([^:/]+):(\d+)", self.url).groups()
        self.port = int(port)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(r"event=ready\b.*\burl=(\S+)", line)
            if found:
                self.url = found.group(1)
                self._ready.set()
        self._ready.set()

    @property
    def log(self):
        return "".join(self.lines)

    def alive(self):
        return self.process.poll() is None

    def connect(self, timeout=10):
        return socket.create_connection((self.host, self.port), timeout * PATIENCE)

    def raw(self, data, timeout=10):
        """Sends bytes on a fresh connection, returns everything that comes back until the server closes (or the timeout)."""
        with self.connect(timeout) as s:
            try:
                s.sendall(data)
            except OSError:
                pass
            return read_all(s)

    def rss_bytes(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self, timeout=20):
        if self.alive():
            self.terminate()
        try:
            code = self.process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the server did not end after SIGTERM:\n" + self.log[-4000:])
        self._reader.join(5)
        return code


def read_all(sock):
    out = b""
    while True:
        try:
            piece = sock.recv(65536)
        except (TimeoutError, ConnectionError):
            return out
        if not piece:
            return out
        out += piece


def wait_until(condition, timeout=5.0):
    end = time.monotonic() + timeout * PATIENCE
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False
