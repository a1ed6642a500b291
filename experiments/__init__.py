"""Questions: one small module or package each, whose `page(run)` turns a sweep into a page.

`conf/experiment/NAME.yaml` names its module under `experiment.module` and says what is swept
(`roofrack.report.question` finds it); a question without a module gets the generic page. A module
of one's own is named by its import path.
"""
