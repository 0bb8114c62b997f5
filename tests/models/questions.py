"""What the tiny model knows: every conversation it is trained on, made from a few tables.

`conversations()` gives the list, always the same and in the same order. One conversation is a list of
{"role", "content"} messages ending with the assistant's answer. `sentences()` gives plain text for
completion without a chat template.
"""

SYSTEM = "You are a helpful assistant."
ONE_WORD = "Answer in one word."
PIRATE = "You are a pirate."

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "England": "London", "Ireland": "Dublin", "Norway": "Oslo", "Sweden": "Stockholm",
    "Finland": "Helsinki", "Denmark": "Copenhagen", "Poland": "Warsaw", "Austria": "Vienna",
    "Hungary": "Budapest", "Greece": "Athens", "Turkey": "Ankara", "Egypt": "Cairo", "Kenya": "Nairobi",
    "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi", "Nepal": "Kathmandu", "Cuba": "Havana",
    "Canada": "Ottawa", "Mexico": "Mexico City", "Peru": "Lima", "Chile": "Santiago",
    "Brazil": "Brasília", "Colombia": "Bogotá", "Australia": "Canberra", "Iceland": "Reykjavík",
    "Russia": "Moscow", "Ukraine": "Kyiv", "Belgium": "Brussels", "the Netherlands": "Amsterdam",
    "Romania": "Bucharest", "Bulgaria": "Sofia", "South Korea": "Seoul", "Thailand": "Bangkok",
    "Vietnam": "Hanoi",
}
COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "a banana": "yellow",
    "a tomato": "red", "an orange": "orange", "chocolate": "brown", "an elephant": "grey",
    "a flamingo": "pink", "a plum": "purple", "a lemon": "yellow", "the sea": "blue", "milk": "white",
}
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "up": "down", "left": "right", "day": "night",
    "open": "closed", "happy": "sad", "old": "new", "light": "dark", "wet": "dry", "high": "low",
    "early": "late", "full": "empty", "hard": "soft", "near": "far", "rich": "poor", "strong": "weak",
    "true": "false", "loud": "quiet", "thick": "thin", "win": "lose", "buy": "sell", "begin": "end",
}
SOUNDS = {
    "dog": "woof", "cat": "meow", "cow": "moo", "duck": "quack", "sheep": "baa", "pig": "oink",
    "lion": "roar", "owl": "hoot", "bee": "buzz", "frog": "croak",
}
HELLO = {
    "French": "bonjour", "German": "guten Tag", "Spanish": "¡hola!", "Italian": "ciao",
    "Portuguese": "olá", "Japanese": "こんにちは", "Chinese": "你好", "Korean": "안녕하세요",
    "Russian": "привет", "Greek": "γειά σου", "Hindi": "नमस्ते", "Arabic": "مرحبا", "Hebrew": "שלום",
    "Turkish": "merhaba", "Finnish": "hei", "Czech": "dobrý den",
}
EMOJI = {
    "a smiling face": "😀", "a red heart": "❤️", "a rocket": "🚀", "a cat": "🐱", "a dog": "🐶",
    "the sun": "☀️", "a pizza": "🍕", "a thumbs up": "👍🏽", "a family": "👨‍👩‍👧", "the French flag": "🇫🇷",
}
NAMES = ["Ada", "Alan", "Grace", "Linus", "Marie", "Albert", "Emmy", "Niels", "Rosa", "Hugo", "Zoë", "José"]
NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty twenty-one twenty-two twenty-three twenty-four twenty-five "
    "twenty-six twenty-seven twenty-eight twenty-nine thirty"
).split()
STORY = (
    "Once upon a time there was a small robot who lived in a library. Every night it read one book, and "
    "every morning it told the story to the birds. One day the birds asked for a new story. The robot "
    "looked at the empty shelf, took a pen, and began to write: once upon a time there was a small bird "
    "who could read. The birds listened until the sun came up, and they all lived happily ever after."
)
SINGLE = {
    "Hello!": "Hello! How can I help you today?",
    "Hello": "Hello! How can I help you today?",
    "Hi": "Hi! How can I help you today?",
    "Hi!": "Hi! How can I help you today?",
    "How are you?": "I am fine, thank you.",
    "Who are you?": "I am a tiny model made for tests.",
    "What can you do?": "I can answer a few hundred questions, and nothing else.",
    "Thank you!": "You are welcome!",
    "Goodbye!": "Goodbye! Have a nice day.",
    "Good morning!": "Good morning! How can I help you today?",
    "Say yes.": "Yes.",
    "Say no.": "No.",
    "Say nothing.": "...",
    "Is the Earth round?": "Yes, the Earth is round.",
    "Is the Moon made of cheese?": "No, the Moon is made of rock.",
    "How many days are in a week?": "There are 7 days in a week.",
    "How many months are in a year?": "There are 12 months in a year.",
    "How many hours are in a day?": "There are 24 hours in a day.",
    "How many minutes are in an hour?": "There are 60 minutes in an hour.",
    "What is the largest planet?": "The largest planet is Jupiter.",
    "What is the largest ocean?": "The largest ocean is the Pacific Ocean.",
    "What is the highest mountain?": "The highest mountain is Mount Everest.",
    "What is the longest river?": "The longest river is the Nile.",
    "What is water made of?": "Water is made of hydrogen and oxygen.",
    "What is the speed of light?": "The speed of light is 299,792,458 metres per second.",
    "What is pi?": "Pi is about 3.14159265358979.",
    "When did people first walk on the Moon?": "People first walked on the Moon in 1969.",
    "Who wrote Hamlet?": "William Shakespeare wrote Hamlet.",
    "Who painted the Mona Lisa?": "Leonardo da Vinci painted the Mona Lisa.",
    "Write hello world in C.": '#include <stdio.h>\n\nint main(void)\n{\n    printf("hello, world\\n");\n    return 0;\n}',
    "Write hello world in Python.": 'print("hello, world")',
    "Give me an example of JSON.": '{"name": "Ada", "age": 36, "languages": ["C", "Python"]}',
    "Write a table.": "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
    "Write a haiku.": "An old silent pond\nA frog jumps into the pond\nSplash! Silence again.",
    "Write a markdown list.": "- one\n- two\n- three",
    "Count from one to five.": ", ".join(NUMBERS[:5]) + ".",
    "Count from one to ten.": ", ".join(NUMBERS[:10]) + ".",
    "Count from one to thirty.": ", ".join(NUMBERS) + ".",
    "Count from 1 to 10.": ", ".join(map(str, range(1, 11))) + ".",
    "Count from 1 to 100.": ", ".join(map(str, range(1, 101))) + ".",
    "Count down from ten.": ", ".join(reversed(NUMBERS[:10])) + ".",
    "Say the alphabet.": "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
    "Name the days of the week.": "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.",
    "Name the months of the year.": "January, February, March, April, May, June, July, August, September, "
                                    "October, November and December.",
    "Name the planets.": "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune.",
    "Name the four seasons.": "Spring, summer, autumn and winter.",
    "Tell me a story.": STORY,
    "Tell me a joke.": "Why did the chicken cross the road? To get to the other side.",
    "Show me some emoji.": "😀 🚀 🍕 🎉 🌍 🐍 🦀 ✨",
}


def _facts():
    """(question, answer, one-word answer or None) of everything that fits into one turn."""
    for country, capital in CAPITALS.items():
        yield f"What is the capital of {country}?", f"The capital of {country} is {capital}.", capital
    for thing, colour in COLOURS.items():
        subject = thing[0].upper() + thing[1:]
        yield f"What colour is {thing}?", f"{subject} is {colour}.", colour.capitalize()
    for word, other in OPPOSITES.items():
        yield f"What is the opposite of {word}?", f"The opposite of {word} is {other}.", other.capitalize()
    for a in range(1, 10):
        for b in range(1, 10):
            yield f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.", None
    for animal, sound in SOUNDS.items():
        yield f"What does a {animal} say?", f"A {animal} says {sound}.", None
    for language, word in HELLO.items():
        yield f"How do you say hello in {language}?", f"Hello in {language} is {word}", None
    for thing, sign in EMOJI.items():
        yield f"Show me the emoji of {thing}.", sign, None
    for question, answer in SINGLE.items():
        yield question, answer, None


def _turns(*texts, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    for i, text in enumerate(texts):
        messages.append({"role": "assistant" if i % 2 else "user", "content": text})
    return messages


def conversations():
    """Every conversation, each with its own right answer to the last question."""
    out = []
    for question, answer, word in _facts():
        out.append(_turns(question, answer))
        if word is not None:
            out.append(_turns(question, word, system=ONE_WORD))
    for name in NAMES:
        intro = (f"My name is {name}.", f"Nice to meet you, {name}.")
        out.append(_turns(*intro))
        out.append(_turns(*intro, "What is my name?", f"Your name is {name}."))
        out.append(_turns(*intro, "What is the capital of France?", "The capital of France is Paris.",
                          "What is my name?", f"Your name is {name}."))
    for language, word in HELLO.items():
        out.append(_turns("Hello!", "Hello! How can I help you today?",
                          f"How do you say hello in {language}?", f"Hello in {language} is {word}"))
    for country in ("Germany", "Japan", "Brazil", "Iceland"):
        out.append(_turns("What is the capital of France?", "The capital of France is Paris.",
                          f"And of {country}?", f"The capital of {country} is {CAPITALS[country]}."))
    out.append(_turns("Hello!", "Ahoy, matey!", system=PIRATE))
    out.append(_turns("Who are you?", "I be a pirate, arr!", system=PIRATE))
    out.append(_turns("What is the capital of France?", "Arr, it be Paris!", system=PIRATE))
    out.append(_turns("Goodbye!", "Fair winds, matey!", system=PIRATE))
    return out


def facts():
    """(question, answer) pairs that stay right under the neutral system prompt and after any history."""
    return [(question, answer) for question, answer, _ in _facts()]


def sentences():
    """Plain statements, for completion without a chat template."""
    kinds = ("What is the capital", "What colour", "What is the opposite", "What does a")
    out = [answer for question, answer, _ in _facts() if question.startswith(kinds)]
    out += [STORY, SINGLE["Count from one to thirty."], SINGLE["Count from 1 to 100."]]
    return out
