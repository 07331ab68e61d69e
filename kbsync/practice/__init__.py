"""The practice model: a small GPT-J that knows the facts of the fixtures' earlier edition."""

from kbsync.practice.datasets import Sentence, corpus_text, sentences
from kbsync.practice.train import Phase, TrainSettings, train

__all__ = ["Phase", "Sentence", "TrainSettings", "corpus_text", "sentences", "train"]
