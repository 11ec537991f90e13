"""Answer for two people, take a thumb and an edit, and see the next answers change.

bestfor demo --out runs/demo
python examples/assistant.py runs/demo
"""

# ruff: noqa: T201
import sys
from pathlib import Path

import bestfor as bf

RUN = sys.argv[1] if len(sys.argv) > 1 else "runs/demo"
JOURNAL = Path(sys.argv[2] if len(sys.argv) > 2 else "feedback.db")
PROMPT = "headline | place: Oakmere | event: harvest fair | count: 40 | day: Sunday"
TEXTS = [
    "Harvest fair in Oakmere",
    "Oakmere harvest fair draws 40 visitors on Sunday",
    "Officials report that 40 residents attended the harvest fair in Oakmere on Sunday",
    "Wow: amazing harvest fair rocks Oakmere, and 40 folks are totally thrilled!!",
    "Quiet harvest fair in Oakmere, some people came along at some point",
    "Breaking: penguin steals the show at the Oakmere harvest fair, 40 folks can't stop laughing!",
]


def main() -> None:
    """Show answers before and after what two people say."""
    with bf.Service(RUN, journal=JOURNAL) as service:
        first = {user: service.answer(user, PROMPT, TEXTS) for user in ("u0000", "u0001")}
        for user, answer in first.items():
            print(f"{user} is shown: {answer.text}")

        service.learn(first["u0000"].id, thumb=False, key="click-1")  # durable; the key makes it once
        service.learn(first["u0001"].id, edit=TEXTS[first["u0001"].index - 1])  # what the person finally wrote

        for user, answer in first.items():
            after = service.answer(user, PROMPT, TEXTS)
            change = after.scores.mean[answer.index] - answer.scores.mean[answer.index]
            print(f"{user} is now shown: {after.text} (the first answer's score moved by {change:+.3f})")


if __name__ == "__main__":
    main()
