"""Writes models and their answers with the installed release of scikit-learn: python write_models.py FOLDER."""

import json
import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import text
from pmip.steps import CommentFeatures

TEXTS = ["free stuff at www.example.org", "nice song", "check my channel out", "love this", "free cards!!"]
TEXTS += ["who is here"]
LABELS = [1, 0, 1, 0, 1, 0]


def pipelines() -> dict[str, Pipeline]:
    """Fit models that cover each type of features and of classifier that pmip can read."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, stop_words=["is"])
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), preprocessor=text.normalised, norm="l1")
    own = TfidfVectorizer(analyzer=text.token_ngrams, binary=True, use_idf=False)
    parts = [("words", words), ("characters", characters), ("own", own), ("comment", CommentFeatures())]
    union = FeatureUnion(parts, transformer_weights={"words": np.float64(0.5)})
    sgd = SGDClassifier(loss="log_loss", average=True, random_state=np.random.RandomState(0))
    logistic = LogisticRegression(solver="liblinear", C=np.float64(3), class_weight={0: 1.0, 1: 2.0})
    made = {"words": (TfidfVectorizer(), LogisticRegression()), "union": (union, sgd), "weighted": (union, logistic)}
    return {name: Pipeline([("features", f), ("classifier", c)]).fit(TEXTS, LABELS) for name, (f, c) in made.items()}


def main(folder: Path) -> None:
    answers = {}
    for name, model in pipelines().items():
        written = {f"{name}-{protocol}.pkl": pickle.dumps(model, protocol) for protocol in (2, 5)}
        for file, content in written.items():
            (folder / file).write_bytes(content)
        joblib.dump(model, folder / f"{name}-joblib.pkl", compress=3 if name == "union" else 0)
        spam = model.predict_proba(TEXTS)[:, 1].tolist()
        golden = [{"comment": comment, "probability": value} for comment, value in zip(TEXTS, spam, strict=True)]
        answers |= dict.fromkeys([*written, f"{name}-joblib.pkl"], golden)
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
