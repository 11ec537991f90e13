import pytest

from bestfor import rewards
from support import judges
from support.servers import judging


@pytest.fixture
def judge(scripted):
    """Makes judges before a scripted server; gives both."""
    made = []

    def make(answer=None, *, cache=None, encoder=None, **options):
        running = scripted(answer or judging())
        given = {"model": "m", "endpoint": {"base_url": running.url, **judges.QUICK}, **options}
        made.append(rewards.build("judge", cache=cache, encoder=encoder, **given))
        return made[-1], running

    yield make
    for one in made:
        one.close()
