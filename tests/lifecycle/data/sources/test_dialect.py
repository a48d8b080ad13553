"""What is detected of a text file: its encoding, its separator, the line that names the columns."""

import pytest

from lifecycle.data.sources.dialect import Layout, detect_encoding, detect_layout
from lifecycle.errors import SourceError

GERMAN = "name;ort\nMüller;Köln\nStraße;Zürich – „x“\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("name,city\nA,B\n", "utf-8"),
        (GERMAN, "utf-8"),
        (GERMAN, "cp1252"),
        ("name,prix\nCafé,3 €\nCrème brûlée,4 €\n", "cp1252"),
        ("id,n\n1,Müller\n2,Jones\n", "cp1252"),
        ("id;betrag\nKöln;3 €\n", "iso8859-15"),
        (GERMAN.replace(" – „x“", ""), "cp850"),
        (GERMAN, "mac-roman"),
        ("miasto;wartość\nŁódź;3\nKraków;4\nGdańsk;5\n", "cp1250"),
        ("Příjmení;Město\nNovák;Plzeň\nDvořák;Děčín\n", "cp1250"),
        ("имя;город\nИван;Москва\nАнна;Казань\n" * 5, "cp1251"),
        ("όνομα;πόλη\nΓιώργος;Αθήνα\n" * 5, "cp1253"),
        ("ad;şehir\nAyşe;İzmir\nÇağrı;Muğla\n" * 5, "cp1254"),
        ("名前,都市\n田中,東京\n鈴木,大阪\n" * 5, "cp932"),
        ("姓名,城市\n张三,北京\n李四,上海\n" * 5, "gb18030"),
        (GERMAN, "utf-16"),
        (GERMAN, "utf-16-le"),
        (GERMAN, "utf-16-be"),
        (GERMAN, "utf-32"),
    ],
)
def test_encodings(text: str, encoding: str) -> None:
    raw = text.encode(encoding)
    assert raw.decode(detect_encoding([raw], "in.csv")) == text


def test_a_mark_of_utf8_is_told_from_other_text() -> None:
    assert detect_encoding([GERMAN.encode("utf-8-sig")], "in.csv") == "utf-8"


def test_a_sign_far_below_decides_and_blocks_may_cut_it() -> None:
    raw = ("id,n\n" + "1,x\n" * 50_000 + "2,Müller\n").encode("cp1252")
    blocks = [raw[at : at + 1_000] for at in range(0, len(raw), 1_000)]
    assert detect_encoding(blocks, "in.csv") == "cp1252"
    wide = ("n\n" + "é" * 999 + "\n").encode()
    assert detect_encoding([wide[at : at + 7] for at in range(0, len(wide), 7)], "x") == "utf-8"


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(SourceError, match="it is binary, not text"):
        detect_encoding([bytes(range(256)) * 10], "junk.csv")


DECIMALS = "1,5;2,5;3,5;4,5\n" * 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", Layout(",", 0)),
        ("a\tb\n1\t2\n", Layout("\t", 0)),
        ("a|b\n1|2\n", Layout("|", 0)),
        ("a;b;c;d\n" + DECIMALS, Layout(";", 0)),
        ("Report\na;b;c;d\n" + DECIMALS, Layout(";", 1)),
        ("sep=;\na;b\n1;2\n", Layout(";", 0)),
        ("sep=\t\r\na,x\tb\r\n1\t2\r\n", Layout("\t", 0)),
        ("id|note\n1|a, b, c\n2|x, y, z\n3|d, e, f\n", Layout("|", 0)),
        ("Customer report,,,\nid,a,b,c\n1,2,3,4\n2,3,4,5\n", Layout(",", 1)),
        ("# made by x, on y, for z\n# more\nid,a\n1,2\n2,3\n", Layout(",", 2)),
        ("#id,name,x\n1,a,2\n", Layout(",", 0)),
        (",a,b\n0,1,2\n1,2,3\n", Layout(",", 0)),
        ('"a\nb","c"\n1,2\n3,4\n', Layout(",", 0)),
        ('Title\n"a\nb","c"\n1,2\n3,4\n', Layout(",", 1)),
        ("\n\na,b\n1,2\n", Layout(",", 0)),
        ("x,y\r1,2\r3,4\r", Layout(",", 0)),
        ("Made by;SAP;;;;;\n;;;;;;\na;b;c;d;e;f;g\n" + "1;2;3;4;5;6;7\n" * 5, Layout(";", 2)),
        ("Title\n\nRegion,2020,2021\nx,1,2\ny,3,4\n", Layout(",", 2)),
        ("5.1,3.5,x\n4.9,3.0,x\n", Layout(",", 0)),
        ("only\n1\n2\n", Layout(",", 0)),
    ],
)
def test_layouts(text: str, expected: Layout) -> None:
    assert detect_layout(text) == expected


def test_a_separator_that_is_known_is_not_guessed() -> None:
    assert detect_layout("Title\na:b\n1:2\n3:4\n", ":") == Layout(":", 1)
