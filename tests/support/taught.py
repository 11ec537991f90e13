"""A reward model that is easy to follow: words that were liked are liked again."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from bestfor.data.labels import Labels
from bestfor.rewards import RewardModel
from bestfor.types import RewardEstimate, Scores


@dataclass(frozen=True)
class TaughtPerson:
    """Weights of words: the mean utility of the texts that they stood in, a preference counting 1 and -1."""

    user: str
    served: str
    words: dict

    def score(self, prompt, texts, history=None):
        mean = np.array([sum(self.words.get(word, 0.0) for word in text.split()) for text in texts])
        return Scores(mean, np.ones(len(texts)), np.ones(len(texts)), self.served)


class Taught(RewardModel):
    """Everybody likes long words a little; users that were fitted like their own word."""

    kind = "taught"
    learns = True
    has_std = True

    def score(self, user, prompt, texts, history=None):
        return self.person(user, Labels()).score(prompt, texts, history)

    def person(self, user, labels, history=None):
        seen = defaultdict(list)
        for one in labels.rated:
            for word in one.text.split():
                seen[word] += [one.utility] * max(1, round(10 * one.weight))
        for one in labels.preferred:
            for word in one.better.split():
                seen[word].append(one.weight)
            for word in one.worse.split():
                seen[word].append(-one.weight)
        words = {word: float(np.mean(values)) for word, values in seen.items()}
        if user in self._users:
            words = {f"{user}-word": 1.0, **words}
        return TaughtPerson(user, "own" if words else "everybody", words)

    def _fit(self, candidates, rng):
        pass

    def _predict(self, candidates):
        return RewardEstimate(np.zeros(len(candidates)), np.ones(len(candidates)))

    def _state(self):
        return {}, {}

    def _restore(self, state, arrays):
        pass


class Untaught(Taught):
    """The same, of a kind that learns at fit only."""

    kind = "untaught"
    learns = False


def taught(*users, cls=Taught):
    """A fitted model that knows some users."""
    model = cls()
    model._users, model._fitted = tuple(sorted(users)), True
    return model
