"""Files are the same on a classic session and without one, in the words of Hadoop and of fsspec."""

import bz2
import gzip
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from din_model.errors import InputError
from pipelines.access.files import Entry, escaped
from pipelines.access.fsspec_files import FsspecFiles, fsspec_glob, without_braces
from pipelines.access.hadoop_files import HadoopFiles
from tests.s3 import s3_server

ODD = ["a b#", "50%20", "v[2]", "{x}", "a*b\\", "country=New%20Zealand", "ü", "x::y"]
NAMES = ["a.csv", "b.csv", "ab.json", ".hidden", "_SUCCESS"]


@pytest.fixture(params=[HadoopFiles, FsspecFiles])
def files(request):
    """Both kinds of files, one after the other."""
    if request.param is FsspecFiles:
        return FsspecFiles()
    return HadoopFiles(request.getfixturevalue("spark"))


def uri(path) -> str:
    return path.as_uri()


@pytest.mark.parametrize("name", ODD)
def test_a_path_that_exists_is_no_pattern(files, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "v2").mkdir()
    pattern, [entry] = files.matches(f"{tmp_path}/{name}")
    assert (entry.path, entry.name, entry.is_folder) == (f"{tmp_path}/{name}", name, True)
    assert pattern.endswith(escaped(f"{tmp_path}/{name}"))
    assert files.matches(pattern)[1] == [entry]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("**.csv", ["a.csv", "b.csv"]),
        ("{a,ab}.{csv,json}", ["a.csv", "ab.json"]),
        ("{a{,b},b}.*", ["a.csv", "ab.json", "b.csv"]),
        ("[^b].csv", ["a.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("*S*", ["_SUCCESS"]),
        ("\\*.csv", []),
        ("c.csv", []),
    ],
)
def test_a_pattern_matches_what_hadoop_says(files, tmp_path, pattern, matched):
    for name in NAMES:
        (tmp_path / name).touch()
    assert [entry.name for entry in files.matches(f"{tmp_path}/{pattern}")[1]] == matched


def test_a_pattern_matches_in_every_folder(files, tmp_path):
    for folder in ("east", "west", "south"):
        (tmp_path / folder / "2026-11-20").mkdir(parents=True)
    _, entries = files.matches(f"{tmp_path}/{{east,west}}/2026-11-2*")
    assert [entry.path for entry in entries] == [
        f"{tmp_path}/east/2026-11-20",
        f"{tmp_path}/west/2026-11-20",
    ]


@pytest.mark.parametrize("path", ["/x/[y/z", "/x/{y/z", "nowhere://x/y"])
def test_what_is_no_pattern_is_one_line(files, path):
    with pytest.raises(InputError, match="no such address or pattern") as error:
        files.matches(path)
    assert "\n" not in str(error.value)


def test_children_are_files_and_folders_hidden_ones_too(files, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "_SUCCESS").touch()
    children = files.children(Entry(uri(tmp_path), is_folder=True))
    assert sorted((e.name, e.is_folder) for e in children) == [
        ("_SUCCESS", False),
        ("folder", True),
    ]


def test_text_is_written_moved_and_removed(files, tmp_path):
    files.write_text(f"{tmp_path}/a b/x", "ü")
    files.move(f"{tmp_path}/a b", f"{tmp_path}/c")
    assert files.read_text(f"{tmp_path}/c/x") == "ü"
    assert not files.exists(f"{tmp_path}/a b")
    files.remove(f"{tmp_path}/c")
    files.remove(f"{tmp_path}/c")
    assert not files.exists(f"{tmp_path}/c")


def test_both_know_the_same_size_and_time_of_a_file(spark, tmp_path):
    (tmp_path / "a b.csv").write_text("text")
    ours, hadoops = (
        f.size_and_time(uri(tmp_path / "a b.csv")) for f in (FsspecFiles(), HadoopFiles(spark))
    )
    assert ours == hadoops
    assert ours[0] == 4


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.csv", "user,it\u00e9m\r\nu1,i1\n".encode(), "user,it\u00e9m"),
        ("a.csv", b"\nx\n", ""),
        ("a.csv", b"", None),
        ("a.csv.gz", gzip.compress(b"user\rx", mtime=0), "user"),
        ("a.csv.bz2", bz2.compress(b"user"), "user"),
    ],
)
def test_the_first_line_of_a_text(files, tmp_path, name, content, line):
    (tmp_path / name).write_bytes(content)
    starts: list[bytes] = []
    assert files.first_line(uri(tmp_path / name), "UTF-8", starts.append) == line
    assert starts == ([content[:4]] if name == "a.csv" else [])


def test_the_encoding_of_a_text_has_javas_name(files, tmp_path):
    (tmp_path / "a.csv").write_bytes("itém\n".encode("utf-16-le"))
    assert files.first_line(uri(tmp_path / "a.csv"), "UTF-16LE", lambda _: None) == "itém"


@pytest.mark.parametrize("cut", [12, -9])
def test_a_compressed_file_that_is_cut_off_is_named(files, tmp_path, cut):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"u1,i1\n" * 5000, mtime=0)[:cut])
    with pytest.raises(InputError, match=r"a\.gz: cannot be read \("):
        files.read_to_the_end(uri(tmp_path / "a.gz"))


def test_a_whole_compressed_file_is_read_to_its_end(files, tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"u1,i1\n" * 5000, mtime=0))
    files.read_to_the_end(uri(tmp_path / "a.gz"))


def test_a_footer_says_rows_columns_and_nanoseconds(files, tmp_path):
    moment = pa.array([datetime(2026, 11, 20)], pa.timestamp("ns"))
    table = pa.table({"id": [1], "a b": moment, "utc": moment.cast(pa.timestamp("ns", "UTC"))})
    pq.write_table(table, tmp_path / "a.parquet")
    footer = files.footer(uri(tmp_path / "a.parquet"))
    assert (footer.rows, len(footer.fields)) == (1, 3)
    assert footer.nanoseconds == (("a b", False), ("utc", True))
    assert footer.arrow


def test_footers_differ_by_the_type_of_a_column(files, tmp_path):
    fields = []
    for values in ([1], [1.0], ["x"], [[1]]):
        pq.write_table(pa.table({"id": values}), tmp_path / "a.parquet")
        fields.append(files.footer(uri(tmp_path / "a.parquet")).fields)
    assert len(set(fields)) == 4


def test_a_file_that_is_not_parquet_is_named(files, tmp_path):
    (tmp_path / "a.parquet").write_text("user,item\n")
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet"):
        files.footer(uri(tmp_path / "a.parquet"))


def test_a_path_without_scheme_is_absolute_for_a_server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert FsspecFiles().absolute("logs/a") == f"file://{tmp_path}/logs/a"
    assert FsspecFiles().absolute("s3a://bucket/a") == "s3a://bucket/a"


def test_braces_with_escapes_stand_for_their_alternatives():
    assert without_braces("a{b,\\{c,d}e") == ["abe", "a\\{ce", "ade"]
    assert fsspec_glob("\\{a\\*[^b]**") == "{a[*][!b]*"


def test_fsspec_reads_an_object_store_by_sparks_addresses(monkeypatch):
    files = FsspecFiles()
    with s3_server(monkeypatch) as bucket:
        logs = f"{bucket.replace('s3:', 's3a:')}/logs"
        assert files.matches(f"{logs}/*")[1] == []
        files.write_text(f"{logs}/a b.csv", "user\n")
        pattern, [entry] = files.matches(f"{logs}/*.csv")
        assert (pattern, entry.uri) == (f"{logs}/*.csv", f"{logs}/a%20b.csv")
        assert files.matches(f"{logs}/a b.csv")[1] == [entry]
        assert files.first_line(entry.uri, "UTF-8", lambda _: None) == "user"
        assert files.size_and_time(entry.uri)[0] == 5
        assert files.children(files.matches(logs)[1][0]) == [entry]
