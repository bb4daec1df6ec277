"""The page for one patient: what it answers and refuses, of a model that is made up here."""

import io
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from lymphoml.cli.config import data_config
from lymphoml.core.errors import InputError
from lymphoml.data.decoding import open_rgb
from lymphoml.data.settings import DataConfig
from lymphoml.deploy import serve as module
from lymphoml.deploy.one_patient import answer_by_model
from lymphoml.deploy.runtime import Answer
from tests.reports.page.test_browser import CHROMIUM, needs_browser

testclient = pytest.importorskip("starlette.testclient")
PORT = 8000
VALUES = {"age": "67", "lymphocyte_count": "9.1", "sex": "f"}


class Brightness:
    """A model of two folds, whose logit is that of the images' mean brightness and the age."""

    uses_images, features, rule = True, None, None
    config, folds = {"name": "made up"}, [0, 1]
    columns = {"age": {}, "lymphocyte_count": {}, "sex": {}}
    ranges = [{"age": {"missing": 0.0, "low": 20.0, "high": 90.0, "quantiles": [40.0, 60.0, 80.0]}}
              for _ in folds]  # fmt: skip

    def decode(self, content):
        return np.array(open_rgb(content).image)

    def encode(self, images):
        means = [image.mean() / 255 for image in images]
        if not means:
            raise InputError("there is no image: a patient needs at least one")
        return np.array([[[mean], [mean]] for mean in means])[..., 0].T[..., None]

    def classify(self, features, values):
        logit = np.array([1.0, 2.0]) * features.mean() + (values["age"] - 50) / 100
        probability = 1 / (1 + np.exp(-logit))
        return Answer(probability.mean(), 0.0, probability)

    def read_images(self, paths):
        return (self.decode(path.read_bytes()) for path in paths)


@pytest.fixture(scope="module")
def data():
    clinical = {"clinical": ["age", "lymphocyte_count", "sex"]}
    return DataConfig.read(data_config("synthetic", clinical).to_dict())


@pytest.fixture(scope="module")
def client(data):
    app = module.make_app(Brightness(), data, PORT)
    with testclient.TestClient(app, f"http://127.0.0.1:{PORT}", False) as made:
        yield made


def picture(level, kind="PNG"):
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (level, level, level)).save(content, kind)
    return content.getvalue()


def uploaded(*contents):
    return [("images", (name, content)) for name, content in contents]


def asked(client, files=None, values=VALUES, **more):
    files = uploaded(("a.png", picture(10)), ("b.png", picture(200))) if files is None else files
    return client.post("/answer", files=files, data=values, **more)


def problems(response, status):
    assert response.status_code == status
    return response.json()["problems"]


def test_an_answer_is_the_commands(client, data, tmp_path):
    for place, level in enumerate((200, 10, 90, 140)):
        (tmp_path / f"{place}.jpg").write_bytes(picture(level, "JPEG"))
    files = [(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir(), reverse=True)]
    own = answer_by_model(Brightness(), data, tmp_path, VALUES).to_dict()
    found = asked(client, uploaded(*files)).json()
    for cell in found["cells"]:  # the place in the upload, not in the order of names
        assert files[cell.pop("number")][0] == cell["image"]
    for cell in own["cells"]:
        del cell["number"]
    assert own == found


def test_outside_the_training_range_is_a_warning(client):
    found = asked(client, values=VALUES | {"age": "95"}).json()
    assert any("age" in line for line in found["warnings"])
    assert found["notice"] == module.RESEARCH


def test_each_broken_image_is_named_and_values_too(client):
    files = uploaded(("a.png", picture(9)), ("b.png", b"x"), ("../../c\x1b.jpg", picture(9)[:40]))
    found = problems(asked(client, files), 422)
    assert [line.split(": ")[0] for line in found] == ["image ../../c\\x1b.jpg", "image b.png"]
    assert problems(asked(client, []), 422) == ["there is no image: a patient needs at least one"]
    found = problems(asked(client, [], {"age": "old", "weight": "3"}), 422)
    assert len(found) == 5
    assert problems(asked(client, uploaded(("a", b"x"))), 422)[0].startswith("image a: ")


def test_limits_are_checked_before_anything_is_decoded(client, monkeypatch):
    monkeypatch.setattr(module, "MOST_IMAGES", 3)
    many = uploaded(*[(f"{number}.png", b"x") for number in range(4)])
    assert problems(asked(client, many), 400) == ["more than 3 images; send fewer"]
    assert "Part exceeded" in problems(asked(client, values={"age": "9" * 5000}), 400)[0]
    assert problems(asked(client, values=dict.fromkeys("abcdefgh", "1")), 400)
    assert problems(asked(client, values=VALUES | {"age": ["6", "7"]}), 422)[0].startswith("age: ")
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    assert "send fewer" in problems(asked(client), 413)[0]
    endless = client.post("/answer", content=iter([b"x"]))
    assert problems(endless, 411) == ["the upload does not say its length"]
    monkeypatch.setattr(module, "MOST_BYTES", 1 << 20)
    broken = client.post("/answer", content=b"x", headers={"content-type": "multipart/form-data"})
    assert problems(broken, 400)
    assert asked(client).status_code == 200  # still there


@pytest.mark.parametrize(("headers", "says"), [
    ({"host": "evil.example"}, "as 127.0.0.1 or localhost alone"),
    ({"host": f"localhost:{PORT + 1}"}, "as 127.0.0.1 or localhost alone"),
    ({"origin": "http://evil.example"}, "another site"),
    ({"origin": "null"}, "another site"),
    ({"sec-fetch-site": "cross-site"}, "another site"),
])  # fmt: skip
def test_other_sites_cannot_ask(client, headers, says):
    assert says in problems(asked(client, headers=headers), 403)[0]
    assert says in problems(client.get("/", headers=headers), 403)[0]
    assert asked(client, headers={"host": f"localhost:{PORT}"}).status_code == 200


def test_the_page_needs_nothing_from_outside(client):
    page = client.get("/")
    for text in ('for="v-age">age (years)', "<option>F</option>", "not a medical device"):
        assert text in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    texts = [page.text] + [client.get(f"/{name}").text for name in module.FILES]
    assert not any("http:" in text or "https:" in text or "innerHTML" in text for text in texts)
    assert "<script>" not in page.text
    schema = client.get("/openapi.json").json()["paths"]["/answer"]["post"]
    assert "images" in str(schema["requestBody"])
    incomplete = data_config("synthetic", {"root": ".", "missing": "impute"})
    form = module._body(Brightness(), incomplete)["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["images"]
    assert "probability" in str(client.get("/openapi.json").json())
    assert client.get("/docs").status_code == 404


def test_a_failure_is_a_line_and_the_page_stays(client, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(module, "answer_of_files", fail)
    line = problems(asked(client), 500)[0]
    assert "RuntimeError" in line
    assert "secret" not in line
    monkeypatch.undo()
    assert asked(client).status_code == 200


def test_a_port_in_use_is_a_line():
    with module.listening(0) as first:
        port = first.getsockname()[1]
        says = f"port={port}: Address already in use"
        with pytest.raises(InputError, match=says), module.listening(port):
            pass


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (390, "dark")])
def test_in_a_browser_a_broken_image_is_left_out_and_the_cells_are_shown(
    data, tmp_path, width, scheme
):
    playwright = pytest.importorskip("playwright.sync_api")
    for name, content in (("a.png", picture(10)), ("b.png", b"x"), ("c.png", picture(200))):
        (tmp_path / name).write_bytes(content)
    requests, complaints = set(), []
    with module.listening(0) as free:
        port = free.getsockname()[1]
    Thread(target=module.serve, args=(Brightness(), data, port), daemon=True).start()
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("request", lambda request: requests.add(request.url.partition("//")[2]))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text))
        for _ in range(50):
            with suppress(playwright.Error):
                page.goto(f"http://127.0.0.1:{port}/")
                break
            time.sleep(0.1)
        page.set_input_files("#images", sorted(tmp_path.glob("*.png")))
        for name, value in (("age", "67"), ("lymphocyte_count", "9.1")):
            page.fill(f"#v-{name}", value)
        page.select_option("#v-sex", "F")
        page.focus("#v-sex")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the button
        page.wait_for_selector(".problem")
        assert "image b.png: cannot be decoded" in page.inner_text("#problems")
        page.click("#problems button")
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#count") == "2 images chosen."
        shown = page.locator("#cells img")
        assert {image.get_attribute("alt") for image in shown.all()} == {
            "cell of a.png", "cell of c.png"}  # fmt: skip
        assert all(image.evaluate("each => each.naturalWidth") == 8 for image in shown.all())
        assert page.evaluate("document.activeElement.id") == "result-title"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.fill("#v-age", "68")
        assert page.is_hidden("#result")  # it was of another age
        browser.close()
    assert {url.partition("/")[0] for url in requests if "127" in url} == {f"127.0.0.1:{port}"}
    assert [line for line in complaints if "422" not in line] == []


def test_all_files_of_the_page_are_there():
    assert {path.name for path in (Path(module.__file__).parent / "page").iterdir()} == {
        "page.html.j2", *module.FILES}  # fmt: skip
