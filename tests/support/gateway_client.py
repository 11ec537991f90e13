"""A client that gives feedback as fast as it can and says on standard output what was acknowledged.

    python gateway_client.py URL PREFIX THREADS

A line is ``KEY VALUE`` after a 200 or 201. It ends when the gateway does.
"""

import os
import sys
import threading

import httpx2


def work(url, prefix, thread):
    with httpx2.Client(base_url=url, timeout=10.0, trust_env=False) as http:
        for number in range(100_000):
            body = {"kind": "rating", "value": number % 2, "user": f"u{thread}", "text": f"text {number}"}
            key = f"{prefix}-{thread}-{number}"
            try:
                if http.post("/v1/feedback", json={**body, "key": key}).status_code in (200, 201):
                    os.write(1, f"{key} {number % 2}\n".encode())
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
