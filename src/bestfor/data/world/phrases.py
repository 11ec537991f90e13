"""Vocabulary of the embedded world: invented facts, phrases by mood, and the lexicons that measure style.

Everything here was written for this project. Keys read ``slot.mood``; ``{names}`` in a phrase are slots that the
grammar fills. The lexicons are what style is measured by, so a phrase carries a mood exactly because of its words.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _listed(text: str, separator: str = " ") -> tuple[str, ...]:
    return tuple(text.split(separator))


PLACES = _listed(
    "Oakmere Larkhaven Dunmoor Westering Copperton Hollowell Pinebrook Saltby Grenholm Ravenhill Thornwick Stonecross "
    "Willowford Eastfold Birchdale Tannerby Mosswater Elderby Foxcombe Ashenport Brindlewick "
    "Harrowgate Quillby Norfield"
)
EVENTS = _listed(
    "harvest fair,charity run,lantern parade,chess match,bake sale,book swap,boat race,film night,poetry evening,"
    "bridge opening,tree planting,garden tour,quiz final,kite contest,choir concert,bike market,soup festival,"
    "robot workshop,science show,beach cleanup,dance gala,pottery class,jazz picnic,puppet play",
    ",",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COUNTS = tuple(str(n) for n in (*range(20, 100, 10), *range(100, 400, 20), *range(400, 1000, 50)))
THINGS = _listed(
    "kettle lamp backpack toaster umbrella keyboard blender notebook headphones suitcase clock chair drill camera "
    "scooter tent speaker jacket bottle fan mixer wallet helmet radio"
)
PARTS = _listed(
    "grip battery finish sound weight hinge colour handle zip lining switch cable lid strap base screen motor pocket "
    "stand button"
)
PRICES = tuple(str(n) for n in (*range(15, 100, 5), *range(110, 200, 10)))
WEEKS = tuple(str(n) for n in range(2, 13))

HEADLINE: dict[str, tuple[str, ...]] = {
    "core": (
        "{eventnp} {held} {where}{when}{crowd}",
        "{crowdn} {attend} {eventnp} {where}{when}",
        "{place} {hosts} {eventnp}{when}{crowd}",
        "{eventnp} {draws} {crowdn} {where}{when}",
    ),
    "short": (
        "{eventnp} {held} {where}{when}",
        "{place} {hosts} {eventnp}",
        "{eventnp} {held}{when}",
        "{crowdn} {attend} {place} {event}",
        "{place} {event}: {crowdn}",
    ),
    "kind.formal": ("annual", "official", "municipal", "inaugural", "civic"),
    "kind.plain": ("local", "new", "town", "yearly"),
    "kind.casual": ("cheeky", "comfy", "scruffy", "homespun", "nifty"),
    "kind.keen": ("amazing", "glorious", "dazzling", "thrilling", "unforgettable", "superb", "magnificent"),
    "kind.calm": ("quiet", "modest", "routine", "ordinary", "gentle", "muted"),
    "held.formal": ("convenes", "commences", "proceeds", "concludes", "is inaugurated"),
    "held.plain": ("opens", "returns", "takes place", "begins", "goes ahead"),
    "held.casual": ("kicks off", "pops up", "bumbles along", "wraps up", "gets going"),
    "attend.formal": ("attend", "assemble for", "convene for", "are received at"),
    "attend.plain": ("join", "visit", "come to", "see"),
    "attend.casual": ("pile into", "rock up to", "swing by", "barge into"),
    "hosts.formal": ("inaugurates", "presents", "convenes", "commissions"),
    "hosts.plain": ("hosts", "holds", "welcomes", "plans"),
    "hosts.casual": ("throws", "dishes up", "cooks up", "whips up"),
    "draws.formal": ("receives", "attracts", "assembles", "accommodates"),
    "draws.plain": ("draws", "brings", "gathers", "meets"),
    "draws.casual": ("lures", "ropes in", "pulls in", "bags"),
    "people.formal": ("attendees", "residents", "participants", "delegates", "citizens"),
    "people.plain": ("visitors", "guests", "people", "neighbours"),
    "people.casual": ("folks", "pals", "punters", "mates"),
    "crowd": (" with {crowdn}", ", {crowdn} there", " for {crowdn}"),
    "some": ("several", "many", "various", "some", "countless", "assorted"),
    "where": ("in {place}", "at {place}", "in {place}"),
    "where.vague": ("around {place}", "somewhere near {place}", "someplace in {place}"),
    "when": (" on {day}", " this {day}", " {day}"),
    "when.vague": (" soon", " sometime", " eventually", " at some point"),
    "opener.formal": ("Notice", "Announcement", "Council statement", "Public bulletin"),
    "opener.plain": ("News", "Update", "Town diary", "Today"),
    "opener.casual": ("Heads up", "Psst", "Righto", "Yep"),
    "opener.keen": ("Wow", "Hooray", "Brilliant news", "Fantastic news"),
    "opener.calm": ("Small note", "Briefly", "Mild news", "Quiet news"),
    "tail.formal": ("organisers confirm", "officials report", "the committee notes", "authorities advise"),
    "tail.plain": ("the town says", "doors open early", "entry is free", "a report says"),
    "tail.casual": ("so grab a mate", "no biggie", "come hang out", "bring yer chums"),
    "tail.keen": ("what a triumph", "pure joy for everyone", "cheers all round", "the best ever"),
    "tail.calm": ("all calm", "nothing dramatic", "without fuss", "a mild affair"),
    "filler.formal": (
        "in accordance with the council programme",
        "following extensive preparations",
        "pursuant to the spring agenda",
    ),
    "filler.plain": (
        "with stalls and music until evening",
        "after a month of planning",
        "with tea and cake for all",
        "despite a little rain",
        "under clear skies",
    ),
    "filler.casual": ("with loads of grub and tunes", "after heaps of faff", "with a ton of snacks and natter"),
    "joint": ("; {quip}", " - {quip}", " while {quip}", " as {quip}", ", {quip}"),
}

REVIEW: dict[str, tuple[str, ...]] = {
    "open.formal": (
        "I acquired this {thing}{cost}.",
        "The {thing} was purchased{cost}.",
        "Our household procured the {thing}{cost}.",
        "I hereby assess the {thing} I procured{cost}.",
    ),
    "open.plain": (
        "I bought this {thing}{cost}.",
        "This {thing} came home with me{cost}.",
        "We picked the {thing}{cost}.",
        "I ordered the {thing} online{cost}.",
    ),
    "open.casual": (
        "Grabbed this {thing}{cost}.",
        "So yeah, nabbed the {thing}{cost}.",
        "Snagged a {thing}{cost}, mates.",
        "Yep, got me the {thing}{cost}.",
    ),
    "cost": (" for {price} euros", " at {price} euros", " on sale for {price} euros"),
    "cost.vague": (" for some money", " at some price", " in some shop"),
    "use.formal": (
        "It has performed reliably for {span}.",
        "Following {span} of operation it remains adequate.",
        "It has been employed daily for {span}.",
    ),
    "use.plain": ("It has worked for {span}.", "I have used it for {span}.", "It has been in use for {span}."),
    "use.casual": (
        "Been messing with it for {span}.",
        "Still hanging in there after {span}.",
        "Bashed it about for {span}.",
    ),
    "span": ("{weeks} weeks",),
    "span.vague": ("some time", "several weeks", "various trips", "some days"),
    "good.formal": (
        "The {good} is commendable.",
        "Its {good} merits particular approval.",
        "I consider the {good} exemplary.",
        "The {good} satisfies every requirement.",
    ),
    "good.plain": ("The {good} is good.", "I like the {good}.", "The {good} works well.", "The {good} does its job."),
    "good.casual": (
        "The {good} is pretty nifty.",
        "Gotta say, the {good} rocks.",
        "Dig the {good}, mate.",
        "The {good} is ace.",
    ),
    "good.keen": (
        "The {good} is amazing!",
        "I adore the glorious {good}!",
        "Wow, what a superb {good}!",
        "The {good} is thrilling!",
    ),
    "bad.formal": (
        "Regrettably, the {bad} is deficient.",
        "The {bad} requires improvement.",
        "One must object to the {bad}.",
        "The {bad} is, however, inadequate.",
    ),
    "bad.plain": (
        "The {bad} is weak.",
        "I do not like the {bad}.",
        "The {bad} could be better.",
        "The {bad} broke once.",
    ),
    "bad.casual": (
        "The {bad} kinda stinks.",
        "Gotta admit, the {bad} is rubbish.",
        "The {bad} is a bit naff.",
        "Meh about the {bad}.",
    ),
    "bad.calm": ("The {bad} is merely ordinary.", "The {bad} is a mild nuisance.", "The {bad} is a muted affair."),
    "mood.keen": (
        "What a triumph!",
        "I am thrilled every morning!",
        "The best purchase ever!",
        "Pure joy, simply fantastic!",
        "Brilliant, brilliant, brilliant!",
    ),
    "mood.calm": (
        "It is a modest, ordinary object.",
        "Nothing dramatic to report.",
        "A quiet companion without fuss.",
        "A routine, gentle thing.",
    ),
    "quip": ("{Quip}.", "Even so, {quip}.", "Meanwhile {quip}.", "Since then {quip}."),
    "filler.formal": (
        "The documentation was furthermore comprehensive.",
        "Delivery occurred in accordance with the agreement.",
        "The packaging was likewise satisfactory.",
    ),
    "filler.plain": (
        "The box was easy to open and the manual was short.",
        "It came on time and in one piece.",
        "It fits on the shelf next to the door.",
        "My family uses it too.",
    ),
    "filler.casual": ("The box was a bit of a faff.", "Came with heaps of tape.", "Chucked the manual, no biggie."),
    "filler.vague": (
        "It somehow does various things.",
        "There is something about it.",
        "Some parts are somewhat like others.",
    ),
    "verdict.formal": (
        "I therefore recommend it.",
        "The acquisition is consequently justified.",
        "My assessment is accordingly favourable.",
    ),
    "verdict.plain": ("I would buy it again.", "It is worth a look.", "I will keep it.", "Three stars from me."),
    "verdict.casual": ("Yeah, go grab one.", "Thumbs up, mates.", "Snag it, chums.", "Not too shabby, yep."),
}

QUIP: dict[str, tuple[str, ...]] = {
    "quip": ("{whose} {beast} {deed}", "{whose} {beast} {deed}", "{whose} {trait} {beast} {deed}"),
    "whose": ("one", "the mayor's", "my aunt's", "a passing", "the vicar's"),
    "trait": ("suspicious", "sleepy", "bearded", "ambitious", "moody", "retired"),
    "beast": _listed(
        "goose pigeon cat llama hamster seagull squirrel donkey parrot hedgehog tortoise ferret walrus penguin"
    ),
    "deed": (
        "demands a refund",
        "files a complaint",
        "steals the sandwiches",
        "claims victory",
        "hires a lawyer",
        "naps through it",
        "eats the paperwork",
        "runs for mayor",
        "blames the weather",
        "wants a raise",
        "loses its trousers",
        "starts a podcast",
        "denies everything",
        "writes a memoir",
    ),
}


FORMAL = _words(
    "annual official municipal inaugural civic convenes commences proceeds concludes inaugurated attend assemble "
    "convene received inaugurates presents commissions receives attracts assembles accommodates attendees residents "
    "participants delegates citizens notice announcement statement bulletin organisers officials committee authorities "
    "accordance programme following extensive pursuant agenda acquired purchased household procured hereby assess "
    "performed reliably operation adequate employed commendable merits particular approval consider exemplary "
    "satisfies requirement regrettably deficient requires improvement object however inadequate documentation "
    "furthermore comprehensive occurred agreement likewise satisfactory therefore recommend acquisition consequently "
    "justified assessment accordingly favourable"
)
CASUAL = _words(
    "cheeky comfy scruffy homespun nifty kicks pops bumbles wraps gets pile rock swing barge throws dishes cooks whips "
    "lures ropes pulls bags folks pals punters mates heads psst righto yep mate biggie hang yer chums loads grub tunes "
    "heaps faff ton natter grabbed yeah nabbed snagged messing hanging bashed gotta rocks dig ace kinda stinks rubbish "
    "naff meh chucked grab thumbs snag shabby"
)
KEEN = _words(
    "amazing glorious dazzling thrilling unforgettable superb magnificent wow hooray brilliant fantastic triumph joy "
    "cheers best ever adore thrilled pure"
)
CALM = _words("quiet modest routine ordinary gentle muted small briefly calm nothing dramatic fuss mild merely affair")
VAGUE = _words(
    "several many various some countless assorted around somewhere someplace soon sometime eventually somehow "
    "something somewhat point"
)
FUNNY = frozenset(QUIP["beast"]) | _words(
    "refund complaint sandwiches victory lawyer naps paperwork mayor weather raise trousers podcast denies memoir"
)
