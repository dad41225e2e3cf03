"""Sentences for the recognition round trip, as people write them.

The written text is the reference. Every one carries something that has to be read out as words
(a number, a date, money, a time, a unit, a name) or is plain speech of a phone call. Units are the
exception: a recognizer writes "kilometers" for what was written "km", so those sentences have a
reference of their own.
"""

from __future__ import annotations

from typing import NamedTuple


class Sentence(NamedTuple):
    """A name for reports, the text, and what should be heard if that is spelt otherwise."""

    name: str
    text: str
    spelt: str = ""

    @property
    def reference(self) -> str:
        """What a recognizer should write."""
        return self.spelt or self.text


NUMBERS = (
    Sentence("count", "There are 15 people waiting in front of you."),
    Sentence("thousands", "The stadium holds 45,000 visitors."),
    Sentence("million", "More than 2.5 million people live in this city."),
    Sentence("decimal", "The average score was 7.25 out of 10."),
    Sentence("ordinal", "Your office is on the 21st floor of the building."),
    Sentence("percent", "Sales went up by 12.5% in the last quarter."),
    Sentence("percent_whole", "About 80% of our customers renew every year."),
    Sentence("year", "The company was founded in 1987 and moved here in 2009."),
    Sentence("hundreds", "We have sold 350 tickets so far."),
)

DATES_AND_TIMES = (
    Sentence("date_us", "Your appointment is on March 14, 2025."),
    Sentence("date_weekday", "The meeting is on Tuesday, October 22nd."),
    Sentence("date_long", "She was born on July 4, 1976 in a small town."),
    Sentence("time_pm", "The doctor can see you at 4:30 PM tomorrow."),
    Sentence("time_am", "Our lines are open from 8 AM every day."),
    Sentence("time_24", "The train leaves at 17:45 from the main station."),
    Sentence("time_both", "Please come between 9:15 AM and 11:45 AM on Friday."),
    Sentence("duration", "The current waiting time is about 12 minutes."),
)

MONEY = (
    Sentence("dollars", "Your balance is $125."),
    Sentence("dollars_cents", "The total comes to $49.99 including tax."),
    Sentence("dollars_large", "The house was sold for $1,250,000 last week."),
    Sentence("dollars_million", "They raised $3.5 million from investors."),
    Sentence("euros", "The ticket costs €75 for adults."),
    Sentence("pounds", "He paid £250 for the old piano."),
    Sentence("refund", "We have refunded $18.50 to your credit card."),
)

UNITS = (
    Sentence(
        "kilometers",
        "The hotel is 5 km from the airport.",
        "The hotel is 5 kilometers from the airport.",
    ),
    Sentence(
        "kilograms", "Each bag may weigh up to 23 kg.", "Each bag may weigh up to 23 kilograms."
    ),
    Sentence(
        "celsius",
        "It will be 25°C in the afternoon.",
        "It will be 25 degrees Celsius in the afternoon.",
    ),
    Sentence(
        "fahrenheit",
        "The oven should be at 350°F.",
        "The oven should be at 350 degrees Fahrenheit.",
    ),
    Sentence(
        "speed", "The speed limit here is 65 mph.", "The speed limit here is 65 miles per hour."
    ),
    Sentence(
        "storage", "Your plan includes 20 GB of data.", "Your plan includes 20 gigabytes of data."
    ),
)

NAMES = (
    Sentence("doctor", "Dr. Smith will call you back this afternoon."),
    Sentence("mister", "Mr. Johnson and Mrs. Brown are in a meeting."),
    Sentence("professor", "Prof. Taylor teaches history at the university."),
    Sentence("street", "The shop is at 221 Baker Street."),
    Sentence("city", "Our office in Chicago, Illinois is closed today."),
    Sentence("customer", "Thank you, Emily Parker, your order has been shipped."),
    Sentence("roman", "World War II ended in 1945."),
)

PHONE = (
    Sentence("phone_us", "You can reach us at 415-555-0132."),
    Sentence("phone_area", "Please call 212-555-0198 for more details."),
    Sentence("phone_free", "Our number is 1-800-555-0149."),
    Sentence("email", "Send your question to help@example.com."),
    Sentence("web", "You will find the form at www.example.com."),
)

CALLS = (
    Sentence("greeting", "Hello, and thank you for calling. How can I help you today?"),
    Sentence("hold", "Please stay on the line while I look up your account."),
    Sentence("repeat", "I'm sorry, I didn't catch that. Could you please say it again?"),
    Sentence("confirm", "Just to confirm, you would like to change your delivery address."),
    Sentence("transfer", "I will transfer you to one of my colleagues in the billing team."),
    Sentence("apology", "I understand that this is frustrating, and I'm sorry for the delay."),
    Sentence("closing", "Is there anything else I can do for you? Have a wonderful day."),
    Sentence("yes", "Yes, of course, that is not a problem at all."),
    Sentence("password", "For your security, never share your password with anyone."),
    Sentence(
        "long",
        "If you would rather speak with a person, press zero at any time, and we will connect you "
        "with the next available agent.",
    ),
)

SENTENCES = NUMBERS + DATES_AND_TIMES + MONEY + UNITS + NAMES + PHONE + CALLS
