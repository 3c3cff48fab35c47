#!/usr/bin/env bash
# filelock 4.2.11 has no way to ask whether a lock is held without taking it for a moment. Two processes that ask about
# a free lock at the same time therefore see each other, and now and then answer "held" though nobody holds it. A shared
# flock asked for by the standard library's fcntl is never wrong. Whoever shows which runs are at work by asking their
# locks needs the second. Linux; seen with Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "filelock==4.2.11"
cat > "$folder/ask.py" <<'PY'
import fcntl, multiprocessing, sys, time
import filelock

LOCK, SECONDS = sys.argv[1], 4.0


def by_filelock():
    lock = filelock.FileLock(LOCK)
    try:
        with lock.acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def by_shared_flock():
    with open(LOCK) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def ask(how, out):
    end, asked, held = time.time() + SECONDS, 0, 0
    while time.time() < end:
        held += how()
        asked += 1
    out.put((asked, held))


for how in (by_filelock, by_shared_flock):
    open(LOCK, "a").close()
    out = multiprocessing.Queue()
    askers = [multiprocessing.Process(target=ask, args=(how, out)) for _ in range(2)]
    for asker in askers:
        asker.start()
    counts = [out.get() for _ in askers]
    for asker in askers:
        asker.join()
    asked, held = (sum(part) for part in zip(*counts))
    print(f"{how.__name__}: asked {asked} times about a free lock, told 'held' {held} times")
    assert (held > 0) == (how is by_filelock), "the behaviour has changed"
print("filelock", filelock.__version__, "- as described")
PY
"$folder/venv/bin/python" "$folder/ask.py" "$folder/free.lock"
