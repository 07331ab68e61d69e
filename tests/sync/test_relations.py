"""What can be synced, and how a relation is found; properties come from a real endpoint."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import yaml
from pyoxigraph import RdfFormat, Store

from kbsync.errors import SettingsError, SourceError, TemplateError
from kbsync.ledger import Ledger
from kbsync.sources import Ask, open_source
from kbsync.sync.home import templates_for
from kbsync.sync.reading import make_asks
from kbsync.sync.relations import discover_relations, new_template, relations_for, search_online, search_templates
from kbsync.templates import check_file
from tests.homes import TEMPLATES, done, make_home
from tests.oxigraph_server import serve, world
from tests.postgres import postgres

PROPERTIES = r"""
wd:P6 a wikibase:Property ; rdfs:label "head of government"@en, "Regierungschef"@de ;
    skos:altLabel "mayor"@en, "prime minister"@en ; wikibase:propertyType wikibase:WikibaseItem .
wd:P35 a wikibase:Property ; rdfs:label "head of state"@en ; wikibase:propertyType wikibase:WikibaseItem .
wd:P1082 a wikibase:Property ; rdfs:label "population"@en ; skos:altLabel "inhabitants"@en, "pop. {total} [n]"@en ;
    <http://schema.org/description> "number of people inhabiting the place: all"@en ;
    wikibase:propertyType wikibase:Quantity .
wd:P9999 a wikibase:Property ; rdfs:label "{}"@en .
wd:P9998 a wikibase:Property ; rdfs:label "nur deutsch"@de .
kb:other rdfs:label "head of nothing"@en .
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(world(tmp_path_factory.mktemp("properties") / "properties.ttl", PROPERTIES)) as url:
        yield url


def answer(home: Path, answers: dict[str, str]) -> None:
    with Ledger.open(home) as ledger:
        ledger.record_model(
            key="m",
            name="some",
            revision=None,
            architecture="x",
            weights_sha256="",
            settings={},
            contexts=[""],
            layers=[0],
        )
        ledger.record_answers("m", answers)


def test_each_relation_has_its_counts_and_what_the_model_said(tmp_path: Path) -> None:
    home = make_home(
        tmp_path / "home", P36={"France": "Paris", "Peru": "Lima", "Chad": "N'Djamena"}, works_for={"Ada": "Acme"}
    )
    rows = {row["relation"]: row for row in relations_for(home)["relations"]}
    of_ours = {"relation": "works_for", "label": None, "template": False, "facts": 1, "conflicts": 0}
    assert rows["works_for"] == of_ours | {"asked": 0, "known": None}
    about = {"label": "capital", "template": True, "facts": 3, "conflicts": 0, "known": None}
    assert rows["P36"].items() >= about.items()
    assert rows["P17"]["facts"] == 0
    texts = ["The capital of {} is", *yaml.safe_load(TEMPLATES)["P36"]["paraphrases"]]
    answer(home, {text.format("France"): "Paris, of course" for text in texts} | {texts[0].format("Peru"): "Lima"})
    found = relations_for(home, "some")
    rows = {row["relation"]: row for row in found["relations"]}
    assert found["model"] == "some"
    assert (rows["P36"]["asked"], rows["P36"]["known"]) == (2, 50.0)  # Peru in one wording of five
    assert rows["works_for"]["known"] is None
    assert relations_for(home, "another")["model"] is None


def test_conflicts_are_subjects_with_several_objects(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={"France": "Paris", "Peru": "Lima"})
    (tmp_path / "other.yaml").write_text("P36: {France: Lyon, Peru: Lima}\n")
    done("pull", "--home", home, "--relation", "P36", "--source", tmp_path / "other.yaml")
    (row,) = [row for row in relations_for(home)["relations"] if row["relation"] == "P36"]
    assert (row["facts"], row["conflicts"]) == (4, 1)


def test_without_a_ledger_there_are_the_templates(tmp_path: Path) -> None:
    found = relations_for(tmp_path / "home")
    assert len(found["relations"]) == len(templates_for(tmp_path))
    assert not (tmp_path / "home").exists()


def test_a_search_finds_labels_and_wordings(tmp_path: Path) -> None:
    assert {"P6", "P35"} <= {one["relation"] for one in search_templates(tmp_path, "Head  OF")}
    assert search_templates(tmp_path, "no such word") == []
    assert [one["text"] for one in search_templates(tmp_path, "a government led")] == ["{} has a government led by"]
    with pytest.raises(SettingsError, match="--search is empty"):
        search_templates(tmp_path, " ")


def test_a_search_online_asks_the_endpoint(endpoint: str, tmp_path: Path) -> None:
    found = search_online(tmp_path, "HEAD of", endpoint)
    assert [tuple(one.values()) for one in found] == [
        ("P6", "head of government", "head of government", True),
        ("P35", "head of state", "head of state", True),
    ]
    (found_by_alias,) = search_online(tmp_path, "Mayor", endpoint)
    assert found_by_alias == {"relation": "P6", "label": "head of government", "text": "mayor", "template": True}
    assert search_online(tmp_path, '")) } #', endpoint) == []


def test_a_draft_can_be_used_and_says_what_it_is(endpoint: str, tmp_path: Path) -> None:
    made = new_template(tmp_path / "home", "P1082", endpoint)
    file = tmp_path / "home" / "templates" / "P1082.yaml"
    assert (made["label"], made["file"]) == ("population", file)
    assert "of type Quantity: a pull leaves them out" in made["remark"]
    text = file.read_text()
    assert "# description: number of people inhabiting the place: all\n" in text
    assert "# aliases: inhabitants, pop. total n\n" in text
    (template,) = check_file(file)
    assert template.prompt == "The population of {} is"
    assert "The inhabitants of {} is" in template.paraphrases
    assert template.wordings == ("{}'s population is", "The population that {} has is")
    assert templates_for(tmp_path / "home").require("P1082").label == "population"
    with pytest.raises(TemplateError, match=r"P1082\.yaml exists already"):
        new_template(tmp_path / "home", "P1082", endpoint)
    assert file.read_text() == text


def test_a_home_that_has_a_template_keeps_it(endpoint: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "templates").mkdir(parents=True)
    (home / "templates" / "own.yaml").write_text(TEMPLATES.replace("P36", "P1082").replace("capital", "people"))
    with pytest.raises(TemplateError, match=r"own\.yaml:1: P1082 has a template there already"):
        new_template(home, "P1082", endpoint)
    assert [path.name for path in (home / "templates").iterdir()] == ["own.yaml"]


@pytest.mark.parametrize(
    ("relation", "error", "message"),
    [
        ("P9999", TemplateError, "the endpoint's label and aliases give no valid template"),
        ("P9998", SourceError, "has no label of P9998 in en, mul"),
        ("P424242", SourceError, "has no label of P424242"),
        ("works_for", SettingsError, "is no Wikidata property: say with --predicate"),
    ],
)
def test_no_draft_is_left_where_none_comes_of_it(
    relation: str, error: type[Exception], message: str, endpoint: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        new_template(tmp_path / "home", relation, endpoint)
    assert not (tmp_path / "home").exists()


DBPEDIA = """
@prefix dbo: <http://dbpedia.org/ontology/> . @prefix dbr: <http://dbpedia.org/resource/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
dbr:France rdfs:label "France"@en ; dbo:capital dbr:Paris ; dbo:leaderName dbr:Someone .
dbr:Japan rdfs:label "Japan"@en ; dbo:capital dbr:Tokyo .
dbr:Paris rdfs:label "Paris"@en . dbr:Tokyo rdfs:label "Tokyo"@en .
"""


@pytest.mark.parametrize("form", ["ttl", "nt", "endpoint"])
def test_predicates_are_discovered_and_drafted(form: str, tmp_path: Path) -> None:
    file, home = tmp_path / "facts.ttl", tmp_path / "home"
    file.write_text(DBPEDIA)
    with ExitStack() as stack:
        if form == "nt":
            store = Store()
            store.load(path=file)
            file = tmp_path / "facts.nt"
            file.write_bytes(store.dump(format=RdfFormat.N_QUADS) or b"")
        source = stack.enter_context(serve(file)) if form == "endpoint" else str(file)
        found = discover_relations(home, source)
        assert [(one["predicate"].rpartition("/")[2], one["statements"]) for one in found] == [
            ("rdf-schema#label", 4),
            ("capital", 2),
            ("leaderName", 1),
        ]
        assert found[1]["example"] in ("dbr:France -> dbr:Paris", "dbr:Japan -> dbr:Tokyo")
        assert {one["relation"] for one in found} == {None}
        assert new_template(home, "P36", source, predicate="dbo:capital")["label"] == "capital"
        assert new_template(home, "leader", source, predicate="dbo:leaderName")["label"] == "leader name"
        (home / "templates" / "leader.yaml").rename(tmp_path / "leader.yaml")
        (asked,) = make_asks(["P36"], source, home=home)
        assert len(open_source(source).read(asked).facts) == 2
        assert discover_relations(home, source)[1]["relation"] == "P36"


def test_a_property_of_another_wikibase_has_the_template_of_its_id(tmp_path: Path) -> None:
    (tmp_path / "facts.nt").write_text("<http://a/Q1> <https://kb.example/prop/direct/P36> <http://a/Q2> .\n")
    assert [one["relation"] for one in discover_relations(tmp_path, str(tmp_path / "facts.nt"))] == ["P36"]


def test_a_bad_predicate_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="predicate 'capital' is not an IRI"):
        new_template(tmp_path, "capital", "http://127.0.0.1:9/", predicate="capital")


TABLES = {
    "facts.csv": "subject,relation,object\nFrance,P36,Paris\nJapan,P36,Tokyo\nAda,works_for,Acme\n",
    "facts.yaml": "P36: {France: Paris, Japan: Tokyo}\nworks_for: {Ada: Acme}\n",
    "edges.tsv": "node1\tlabel\tnode2\nFrance\tP36\tParis\nJapan\tP36\tTokyo\nAda\tworks_for\tAcme\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_relations_of_a_file_of_facts_are_discovered(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TABLES[name])
    found = discover_relations(tmp_path, str(tmp_path / name))
    assert [tuple(one.values()) for one in found] == [
        ("P36", 2, "France -> Paris", "P36"),
        ("works_for", 1, "Ada -> Acme", None),
    ]


WORKERS = [("Ada", "Acme", None), ("Bob", "Initech", 4)]
COLUMNS = [("employer", 2, "Ada -> Acme"), ("worker", 2, "Ada -> Ada"), ("floor", 1, "Bob -> 4")]


def test_columns_of_a_table_are_discovered(tmp_path: Path) -> None:
    rows = "".join(f"{worker};{employer};{floor or ''}\n" for worker, employer, floor in WORKERS)
    (tmp_path / "workers.csv").write_text(f"Worker;Employer;Floor\n{rows}")
    (tmp_path / "templates").mkdir()
    own = TEMPLATES.replace("P36", "works_for").replace("capital", "firm")
    columns = "  source: {columns: {subject: Worker, object: Employer}}\n"
    (tmp_path / "templates" / "own.yaml").write_text(own + columns)
    found = discover_relations(tmp_path, str(tmp_path / "workers.csv"))
    assert [(one["predicate"].lower(), one["statements"], one["example"]) for one in found] == COLUMNS
    assert [one["relation"] for one in found] == ["works_for", None, None]


def test_columns_of_a_database_are_discovered(tmp_path: Path) -> None:
    file = tmp_path / "it's.db"
    with closing(sqlite3.connect(file)) as base, base:
        base.execute("""CREATE TABLE "work ""ers" (worker TEXT, employer TEXT, floor INTEGER, photo BLOB)""")
        base.executemany("""INSERT INTO "work ""ers" VALUES (?, ?, ?, x'ff')""", WORKERS)
        base.execute("CREATE VIEW told AS SELECT 'France' AS subject, 'P36' AS relation, 'Paris' AS object")
    found = discover_relations(tmp_path, f"sqlite:///{file}")
    wanted = [(f'work "ers.{name}', count, example) for name, count, example in COLUMNS]
    assert {tuple(one.values())[:3] for one in found} == {*wanted, ("P36", 1, "France -> Paris")}
    with postgres() as url:
        import psycopg

        with psycopg.connect(url) as server:
            server.execute('CREATE TABLE "wor:kers" (worker TEXT, employer TEXT, floor INT)')
            with server.cursor() as cursor:
                cursor.executemany('INSERT INTO "wor:kers" VALUES (%s, %s, %s)', WORKERS)
        found = discover_relations(tmp_path, url)
        wanted = [(f'public."wor:kers".{name}', count, example) for name, count, example in COLUMNS]
        assert [tuple(one.values())[:3] for one in found] == wanted


def test_a_database_is_read_by_a_query_alone(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "facts.db").close()
    with pytest.raises(SettingsError, match="a database needs --query"):
        open_source(f"sqlite:///{tmp_path / 'facts.db'}").read(Ask("P36"))
