"""A client that gives feedback as fast as it can and says on standard output what was acknowledged.

    python gateway_client.py URL PREFIX THREADS

A line is ``KEY NUMBER`` after a 201. It ends when the gateway does.
"""

import os
import sys
import threading

import httpx2


def work(url, prefix, thread):
    with httpx2.Client(base_url=url, timeout=10.0, trust_env=False) as http:
        for number in range(100_000):
            body = {"kind": "preference", "value": f"{number} better", "over": "worse", "user": f"u{thread}"}
            key = f"{prefix}-{thread}-{number}"
            try:
                if http.post("/v1/feedback", json={**body, "key": key}).status_code != 201:
                    return
                os.write(1, f"{key} {number}\n".encode())
            except httpx2.HTTPError:
                return


def main(url, prefix, threads):
    started = [threading.Thread(target=work, args=(url, prefix, thread)) for thread in range(int(threads))]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
