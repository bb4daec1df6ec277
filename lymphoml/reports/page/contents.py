"""The sections of a run's page, in their order: each a module and the template of its name."""

from lymphoml.reports.page.sections import (
    audit,
    calibration,
    comparison,
    configuration,
    discrimination,
    folds,
    hard,
    learning,
    patients,
    subgroups,
    triage,
    tried,
    tripod,
)

SECTIONS = (comparison, hard, folds, learning, discrimination, calibration, triage, subgroups,
            patients, tried, audit, tripod, configuration)  # fmt: skip
