"""Fine-tuning at the sites where a concept sits: LoRA for lettering, a new subject, or a concept to forget.

`student` calls the model, `lessons` and `applications` say what is learned, `arms` where, `loop` trains, and `run`
writes the result: an ordinary LoRA file, and a pack that rides as the plan of a request.
"""

from tuning.applications import (
    LEVELS,
    Teacher,
    forget_lesson,
    learn_lesson,
    letter_lesson,
    prior_pictures,
)
from tuning.arms import ARMS, Arm, Side, arm_of, matched_rank, parameters_of, target_modules
from tuning.cost import Cost, count_cost
from tuning.errors import BadArm, BadLesson, Diverged, NotKept, TuneError
from tuning.lessons import AnswerLesson, Lesson, PictureLesson, Rows, Together
from tuning.loop import Progress, Schedule, adapters, fit, trained
from tuning.merge import merge_lora
from tuning.noise import Noise, noise_of
from tuning.pictures import Captioned, read_imagefolder
from tuning.run import Tuned, pack_of, run_name, tune, write_result
from tuning.student import Student

__all__ = [
    "ARMS",
    "LEVELS",
    "AnswerLesson",
    "Arm",
    "BadArm",
    "BadLesson",
    "Captioned",
    "Cost",
    "Diverged",
    "Lesson",
    "Noise",
    "NotKept",
    "PictureLesson",
    "Progress",
    "Rows",
    "Schedule",
    "Side",
    "Student",
    "Teacher",
    "Together",
    "TuneError",
    "Tuned",
    "adapters",
    "arm_of",
    "count_cost",
    "fit",
    "forget_lesson",
    "learn_lesson",
    "letter_lesson",
    "matched_rank",
    "merge_lora",
    "noise_of",
    "pack_of",
    "parameters_of",
    "prior_pictures",
    "read_imagefolder",
    "run_name",
    "target_modules",
    "trained",
    "tune",
    "write_result",
]
