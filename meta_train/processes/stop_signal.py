"""Turns SIGTERM, SIGINT and SIGUSR1 into a flag, so that a run can save and leave; a second SIGINT
exits at once.

Python runs signal handlers between bytecodes of the main thread, which may sit for seconds in a
compilation or a meta-step. The byte that the interpreter's C handler writes into the wake-up file
is seen by a thread at once.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """The flag: `received` is None, or the name of the signal that asked to stop."""

    def __init__(self) -> None:
        self.received: str | None = None


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Watches the signals while the block runs; outside the main thread it watches none.

    Yields:
      the StopRequest, set by the first signal. A second SIGINT ends the process with code 130,
      saving nothing.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(receiver, request), daemon=True)
    previous_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    previous = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    watcher.start()
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)
        sender.close()
        watcher.join()
        receiver.close()


def _watch(receiver: socket.socket, request: StopRequest) -> None:
    interrupts = 0
    while data := receiver.recv(64):
        for number in data:
            if number in SIGNALS:
                request.received = request.received or signal.Signals(number).name
            interrupts += number == signal.SIGINT
            if interrupts > 1:
                if os.isatty(2):
                    # A progress bar hides the cursor and gets no chance to bring it back.
                    os.write(2, b"\x1b[?25h\n")
                os._exit(130)
