"""`tidegate demo`: the front door, which says at once what is about to happen.

Owns the options, where the log goes, and the choice between the live view and plain lines; imports what is heavy only after its first
words. `controlplane.demo.play` plays, `controlplane.demo.scenario` is what is played.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line said. `seconds` is the wall time of the simulated week."""

    folder: Path
    headless: bool = False
    resume: bool = False
    seconds: float = 100.0


def run_demo(options: DemoOptions) -> int:
    """Play the demo and return the exit code: 0 when the week was played to its end, 130 when it was cut off."""
    # A dumb terminal cannot move its cursor: the live view would show nothing there until the end.
    headless = options.headless or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown")
    going = "goes on with" if options.resume else "plays"
    sys.stdout.write(f"tidegate demo {going} a week of LLM traffic on an embedded NATS and a simulated cloud, in {options.folder}\n")
    sys.stdout.flush()

    from controlplane.demo.folder import demo_folder
    from controlplane.demo.log import log_to_file

    with demo_folder(options.folder, resume=options.resume, seconds=options.seconds) as seconds:
        log_to_file(options.folder / "tidegate.log", echo_warnings=headless)
        from controlplane.demo.play import play

        try:
            return play(options.folder, seconds, headless=headless)
        except BrokenPipeError:
            # Whoever read our lines has seen enough; without this, closing standard output would complain once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
