"""Tasks on time: what the clock will show, and which day it will be.
围绕时间的任务：过一会儿是几点，过几天是星期几、几月几日。
"""

from datetime import date, timedelta

from chapter_10_llm_modern_components.tasks.family import Family, integer

WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip
YEAR = 2023  # no leap year, as no question's is


class Clock(Family):
    """14:35, 50 minutes later -> 15:25"""

    phrasings = {
        "later": (
            "It is {0}. What time is it {1} minutes later?",
            "What will a clock show {1} minutes after {0}?",
            "A train leaves at {0} and takes {1} minutes. When does it arrive?",
        ),
        "earlier": (
            "It is {0}. What time was it {1} minutes ago?",
            "What did a clock show {1} minutes before {0}?",
            "A train arrives at {0} after {1} minutes. When did it leave?",
        ),
    }

    def draw(self, kind, generator):
        return f"{integer(0, 23, generator):02}:{integer(0, 59, generator):02}", integer(1, 90, generator)

    def work(self, kind, time, minutes):
        return f"{time[:3]}{int(time[3:]) + (minutes if kind == 'later' else -minutes)}"

    def solve(self, kind, time, minutes):
        at = 60 * int(time[:2]) + int(time[3:]) + (minutes if kind == "later" else -minutes)
        return f"{at // 60 % 24:02}:{at % 60:02}"


class Calendar(Family):
    """Monday, 25 March, 9 days later -> Wednesday, 3 April; in a year without a 29 February"""

    phrasings = {
        "later": (
            "Today is {0}, {1} {2}. Which day is it in {3} days?",
            "Which day comes {3} days after {0}, {1} {2}?",
            "{0}, {1} {2} was {3} days ago. Which day is today?",
        )
    }

    def draw(self, kind, generator):
        day = date(YEAR, 1, 1) + timedelta(integer(0, 364, generator))
        return WEEKDAYS[integer(0, 6, generator)], day.day, MONTHS[day.month - 1], integer(1, 14, generator)

    def work(self, kind, weekday, day, month, days):
        return f"{day + days} {month}"

    def solve(self, kind, weekday, day, month, days):
        then = date(YEAR, MONTHS.index(month) + 1, day) + timedelta(days)
        return f"{WEEKDAYS[(WEEKDAYS.index(weekday) + days) % 7]}, {then.day} {MONTHS[then.month - 1]}"
