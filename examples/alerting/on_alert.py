#!/usr/bin/env python3
"""
Log every alert, and mail each once an hour, however often it is said.

A node runs it for every message (see node.toml), with the packets as JSON on standard input::

    echo '["alert", "db1", "disk /", "97% full"]' | ./on_alert.py

ALERTS is the folder for alerts.log and alerts.json (default: the current one), MAIL_TO who gets
mail (default: nobody), REPEAT the seconds until the same is mailed again (default: 3600).
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

#: Alerts that are remembered. Anybody can make up some.
MOST = 1_000


def mail(subject: str) -> None:
    """Have sendmail bring it; it raises what goes wrong."""
    receiver = os.environ.get("MAIL_TO")
    if receiver:
        text = f"To: {receiver}\nSubject: {subject}\n\n{subject}\n"
        subprocess.run(["sendmail", "-t"], input=text, text=True, check=True, timeout=30)


def deal_with(folder: Path, key: str, line: str) -> None:
    """Log a line, and mail it unless that has just been done."""
    repeat, now = float(os.environ.get("REPEAT", "3600")), time.time()
    with open(folder / "alerts.log", "a") as log:
        print(time.strftime("%FT%T"), line, file=log)
    state = folder / "alerts.json"
    known = json.loads(state.read_text()) if state.exists() else {}
    told, again = known.get(key, (0.0, 0))
    if now - told < repeat:
        known[key] = (told, again + 1)
    else:
        mail(f"{line} ({again} times since the last mail)" if again else line)
        known[key] = (now, 0)  # not if mail() has raised: then the next one is mailed
    newest = sorted(known.items(), key=lambda item: item[1][0])[-MOST:]
    new = state.with_suffix(".new")
    new.write_text(json.dumps(dict(newest)))
    new.replace(state)


def main() -> int:
    """Read one message."""
    match json.load(sys.stdin):
        case ["alert", str(host), str(what), str(text)]:
            # From strangers, perhaps: one line, and not too long.
            key, line = (" ".join(one.split())[:200] for one in (f"{host}: {what}", text))
        case _:
            return 0  # another program's message
    folder = Path(os.environ.get("ALERTS", "."))
    try:
        # The node runs several of us at once.
        with open(folder / "alerts.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            deal_with(folder, key, f"{key}: {line}")
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{key}: {line}: not mailed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
