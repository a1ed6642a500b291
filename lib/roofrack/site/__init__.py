"""All questions as one folder of pages: `build` asks them, and an index says what came of it."""

from roofrack.site.build import Built, build
from roofrack.site.questions import QUESTIONS

__all__ = ["QUESTIONS", "Built", "build"]
