"""What the callers say: sentences of a call centre, new ones every time.

``{name}`` becomes an invented full name and ``{surname}`` an invented family name. They stand
early in each sentence, so that neither a whole-text cache nor one of first clauses can answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from vivavoce.errors import SettingsError

TextKind: TypeAlias = Literal["two_words", "short", "medium", "long"]

TWO_WORDS = (
    "Hello {surname}.",
    "Goodbye {surname}.",
    "Welcome {surname}.",
    "Thanks, {surname}.",
    "Certainly, {surname}.",
    "Sorry, {surname}?",
)

SHORT = (
    "Thank you for calling, {name}.",
    "One moment please, {name}.",
    "Is that {name} speaking?",
    "Hello {name}, how can I help?",
    "I am sorry, {name}, please repeat that.",
    "All right, {name}, that is done.",
    "Goodbye, {name}, and have a nice day.",
    "Yes, {name}, we are open today.",
    "Could you spell {surname} for me?",
    "Let me check that, {name}.",
    "I have found you, {name}.",
    "Thank you, {name}, please hold the line.",
    "No problem, {name}, take your time.",
    "Good morning, {name}, this is support.",
    "Your code, {name}, is 4 8 1 5.",
    "It costs $19.99, {name}.",
)

MEDIUM = (
    "Thank you, {name}, your appointment is now booked for Tuesday at half past four.",
    "I can see, {name}, that your parcel left our warehouse yesterday evening.",
    "Before we go on, {name}, could you please confirm your date of birth?",
    "The technician for {name} will arrive between 8:30 and 11:00 tomorrow morning.",
    "I have sent {name} a text message with a link to reset the password.",
    "Your table for {name} is reserved for 6 people on the 14th of March.",
    "Just to be sure, {name}, you would like to cancel the second booking only?",
    "The balance of {name} is $1,284.50, and the next payment is due on May 3rd.",
    "Our office in {surname} Street is open from nine to five, Monday to Friday.",
    "I understand, {name}, and I am sorry that the delivery came so late.",
    "The reference of {name} is 7 3 9 1, I will repeat it if you like.",
    "For {name} the fastest connection leaves at 7:42 and arrives at 9:15.",
    "Your new card, {name}, should reach you within 5 to 7 working days.",
    "Please tell me, {name}, whether the light on the router is green or red.",
    "Doctor {surname} is free this afternoon at three or on Thursday at ten.",
    "The room for {name} costs 140 dollars a night, and breakfast is included.",
    "I will connect you to {name} in the billing department right away.",
    "We have received the claim of {name}, it will take about 2 weeks to review.",
    "The refund for {name} of $56.20 was sent to your bank this morning.",
    "Would you like me, {name}, to keep both seats next to the window?",
)

LONG = (
    "Thank you for waiting, {name}, I have looked at your account and I can see that the last "
    "payment was returned by the bank, so the service was paused on the first of this month.",
    "I am afraid, {name}, that the flight to Chicago is delayed by about 45 minutes because of "
    "the weather, but your connection is safe and your luggage will travel with you.",
    "To change your address, {name}, I will need the old postcode and the new one, and then I "
    "will send you a letter with a code that you can enter on our website or read to me.",
    "Your order, {name}, number 58213, contains 3 items, two of them left our warehouse this "
    "morning, and the third one will follow on Thursday without any further cost for you.",
    "If the heating of {name} does not start again after ten minutes, please switch it off at "
    "the wall, wait for half a minute, switch it on again, and call us back at any hour.",
    "The insurance of {name} covers repairs up to $2,500 a year, you pay the first 150 yourself, "
    "and we can send a mechanic to your home or you can visit a garage near you.",
    "I have put {name} on the waiting list for next Monday, and if somebody cancels before then "
    "we will call you on this number, so please keep your phone with you until the evening.",
    "As I said, {name}, the contract runs until the 31st of December, after that it goes on month "
    "by month, and you can end it with a notice of four weeks by letter or by e-mail.",
    "Let me sum that up, {name}: you would like 2 adult tickets and 1 child ticket for Saturday "
    "evening, seats in the middle of the hall, and a parking place close to the entrance.",
    "We are sorry about the noise, {name}, the work on the street outside is planned to end at "
    "5:30 today, and until then we can offer you another room on the quiet side of the house.",
    "The results of {name} have come in, there is nothing to worry about, but the doctor would "
    "like to see you again in 6 weeks, shall I look for a morning or for an afternoon?",
    "For your safety, {name}, I will now ask you two questions, please answer with yes or no, and "
    "never tell anyone your full password, not even a person who says they work for us.",
    "I can offer {name} a new plan with 20 gigabytes for $35 a month, that is 8 dollars less than "
    "today, you keep your number, and the change takes effect at midnight.",
    "The driver of {name} is about 12 minutes away in a white van, he will ring the bell twice, "
    "and if nobody opens he will leave the parcel with your neighbor at number 27.",
    "Before I close this case, {name}, I would like to know whether everything works again, "
    "because if it does not I can open it once more and you will not have to wait in the queue.",
    "There is a fee of $4.75 for that, {name}, which you will find on the next bill, and if you "
    "choose to pay by card today, I can take it off and give you a credit of 10 dollars.",
)

BUILT_IN: dict[TextKind, tuple[str, ...]] = {
    "two_words": TWO_WORDS,
    "short": SHORT,
    "medium": MEDIUM,
    "long": LONG,
}

_FIRST_NAMES = """
    Alice Barbara Clara Daniel Edward Frances George Hannah Isaac Julia Karen Leonard Martha
    Nathan Oliver Paula Quentin Rachel Samuel Teresa Ursula Victor Walter Yvonne
""".split()  # noqa: SIM905 - lists of words read better as words
_HEADS = "Bar Cal Dar Fen Gar Hal Kin Lan Mar Nor Pel Ros Sel Tam Vin Wes Bran Col Dun Hol".split()  # noqa: SIM905
_MIDDLES = "a e i o den der ding din ka la le li ma mer min na ni ra ri ta ten ter ti vi".split()  # noqa: SIM905
_TAILS = "berg bury combe dale field ford gate ham land ley low man mont more ner son ton".split()  # noqa: SIM905


def invented_surname(number: int) -> str:
    """A pronounceable family name; different for each number below 8,160."""
    number, tail = divmod(number, len(_TAILS))
    number, middle = divmod(number, len(_MIDDLES))
    return _HEADS[number % len(_HEADS)] + _MIDDLES[middle] + _TAILS[tail]


SURNAMES = len(_HEADS) * len(_MIDDLES) * len(_TAILS)


class TextSource:
    """Hands out one text after the other, in a fixed order, each one new unless told otherwise.

    ``salt`` picks which names come first; by default the clock does, so that a second run does
    not repeat the first one's texts. A text without a placeholder gets a name in front.
    """

    def __init__(
        self, texts: Sequence[str] | None = None, *, repeat: bool = False, salt: int | None = None
    ) -> None:
        self._texts = tuple(texts) if texts else SHORT + MEDIUM + LONG
        self._repeat = repeat
        self._next = 0
        self._draw = random.Random(time.time_ns() if salt is None else salt)
        # No family name comes twice before all were used.
        self._surnames = self._draw.sample(range(SURNAMES), SURNAMES)
        self._order = self._draw.sample(range(len(self._texts)), len(self._texts))

    def next(self) -> str:
        """The next text to speak."""
        number, self._next = self._next, self._next + 1
        text = self._texts[self._order[number % len(self._texts)]]
        if self._repeat:
            return _fill(text, _FIRST_NAMES[0], invented_surname(0))
        if "{name}" not in text and "{surname}" not in text:
            text = "{name}, " + text
        surname = invented_surname(self._surnames[number % SURNAMES])
        return _fill(text, self._draw.choice(_FIRST_NAMES), surname)


def _fill(text: str, first: str, surname: str) -> str:
    return text.replace("{name}", f"{first} {surname}").replace("{surname}", surname)


def read_texts(path: Path) -> list[str]:
    """One text a line, blank lines and lines that start with ``#`` left out.

    Raises SettingsError where the file cannot be read or holds no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"Cannot read texts from {path}: {error}") from error
    texts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not texts:
        raise SettingsError(f"{path} holds no text.")
    return texts
