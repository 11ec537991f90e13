"""A client of a journal that says on standard output what it is about to do and what was acknowledged.

    python journal_client.py JOURNAL PREFIX THREADS OPERATIONS SEED

A line is ``? THREAD KEY WHAT`` before a call and ``! THREAD KEY WHAT`` after it. Keys belong to one thread; what is
done to a key is a function of the seed. WHAT is ``answer``, a value, or ``withdraw``.
"""

import os
import random
import sys
import threading

from bestfor.serving.journal import Journal, Label, LoggedAnswer


def answer(id, user):
    numbers = (0.0, 1.0)
    texts = ("one " * 50, "two " * 50)
    return LoggedAnswer(id, user, "p", texts, numbers, None, numbers, 1, "best", "m", "own", None, 1.0)


def label(key, user, value, about):
    return Label(key, user, "rating", answer=about, value=value, low=0.0, high=9.0, texts=("one " * 20,), time=1.0)


def operations(prefix, thread, count, seed):
    """(key, user, what, answer) of a thread, in order."""
    draw = random.Random(f"{seed} {prefix} {thread}")
    keys = []
    for number in range(count):
        user = f"u{draw.randrange(5)}"
        roll = draw.random()
        if roll < 0.2 or not keys:
            name = f"{prefix}-{thread}-{number}-a"
            keys.append([f"{prefix}-{thread}-{number}", user, name])
            yield name, user, "answer", None
            yield keys[-1][0], user, str(draw.randrange(10)), name
        else:
            key, user, about = draw.choice(keys)
            yield key, user, "withdraw" if roll > 0.9 else str(draw.randrange(10)), about


def do(journal, key, user, what, about):
    if what == "answer":
        journal.add_answer("", answer(key, user))
    elif what == "withdraw":
        journal.withdraw("", key)
    else:
        journal.add_labels("", [label(key, user, float(what), about)])


def main(path, prefix, threads, count, seed):
    def work(journal, thread):
        for key, user, what, about in operations(prefix, thread, int(count), seed):
            os.write(1, f"? {thread} {key} {what}\n".encode())
            do(journal, key, user, what, about)
            os.write(1, f"! {thread} {key} {what}\n".encode())

    with Journal(path) as journal:
        started = [threading.Thread(target=work, args=(journal, thread)) for thread in range(int(threads))]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
