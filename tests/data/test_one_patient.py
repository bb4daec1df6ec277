import numpy as np
import pytest
from PIL import Image

from lymphoml.cli.config import data_config
from lymphoml.core.errors import InputError
from lymphoml.data.cohort import load_cohort
from lymphoml.data.one_patient import cohort_of_one
from lymphoml.data.settings import DataConfig

GIVEN = {"age": "67.5", "lymphocyte_count": "9.1", "sex": "f"}


@pytest.fixture
def images(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.jpg")
    return tmp_path


def settings(**changes):
    clinical = {"clinical": ["age", "lymphocyte_count", "sex"]}
    return DataConfig.read(data_config("synthetic", clinical | changes).to_dict())


def test_a_patient_is_as_a_table_of_one_row_has_them(images, cohort):
    data = settings(root=str(cohort))
    one, several = cohort_of_one(data, images, GIVEN), load_cohort(data)
    assert one.table.to_dict("records") == [
        {"label": -1, "group": 0, "age": 67.5, "lymphocyte_count": 9.1, "sex": "F"}
    ]
    assert one.schema == several.schema
    same = one.table.dtypes.to_dict().items() & several.table.dtypes.to_dict().items()
    assert len(same) == 5
    assert [path.name for path in one.images["patient"]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert list(one.unlabelled.table.index) == ["patient"]
    one.fingerprint()


@pytest.mark.parametrize(("changed", "says"), [
    ({"age": "12/03/1950"}, "age=...: is not an age; give years, 0 to 120, and no date"),
    ({"age": "-1"}, "age=...: is not an age"),
    ({"age": None}, "age=...: is missing; give it"),
    ({"lymphocyte_count": "0"}, "lymphocyte_count='0': is not above 0"),
    ({"lymphocyte_count": "many"}, "lymphocyte_count='many': is not a number"),
    ({"sex": "x"}, "sex='x': is none of F, f, M, m"),
    ({"ages": "3"}, "'ages': the run's clinical values are age, lymphocyte_count, sex"),
])  # fmt: skip
def test_each_value_at_fault_is_a_line(images, changed, says):
    values = {key: value for key, value in (GIVEN | changed).items() if value is not None}
    with pytest.raises(InputError) as caught:
        cohort_of_one(settings(), images, values)
    (line,) = caught.value.problems
    assert line.startswith(says)


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        cohort_of_one(settings(), tmp_path / "nowhere", {"sex": "x"})
    assert len(caught.value.problems) == 4
    assert "cannot be read" in caught.value.problems[-1]


def test_a_value_may_be_missing_where_the_run_imputes(images):
    found = cohort_of_one(settings(missing="impute"), images, {"sex": "M"}).table.loc["patient"]
    assert np.isnan(found["age"])
    assert found["sex"] == "M"
    types = cohort_of_one(settings(missing="impute"), images, {}).table.dtypes
    assert types["sex"] == "str"
