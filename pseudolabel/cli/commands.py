"""The two commands: what they take, and what they do in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from pseudolabel.cli.folder import OutputFolder
from pseudolabel.cli.judging import Subject, write_results
from pseudolabel.cli.progress import Stages
from pseudolabel.cli.reading import InputError, list_pictures, read_features, read_labels

_CLUSTER_NEIGHBORS = 100  # as both papers
_AUDIT_NEIGHBORS = 20
_ROWS_AT_A_TIME = 65_536


@dataclass(frozen=True, kw_only=True)
class _Common:
    features: tyro.conf.Positional[Path]
    """Embeddings, one a row: .npy, .npz or .safetensors."""
    out: Path
    """Folder for the results; must be new or empty."""
    overwrite: bool = False
    """Replace the files of an earlier run in --out."""
    key: str | None = None
    """Which array of an .npz or .safetensors file, if it has several."""
    images: Path | None = None
    """Folder of pictures, one a row, matched by sorted name; the report shows some."""
    neighbors: int | None = None
    """How many neighbours are asked about a label; by default half a mean class or cluster, at most
    20 to audit and 100 to cluster."""
    metric: Literal["cosine", "euclidean"] = "cosine"
    """How rows are compared to find neighbours."""
    map: Literal["auto", "tsne", "pca", "none"] = "auto"
    """The report's map, of up to 2,000 rows."""
    seed: int = 0
    """Of everything random."""
    device: str = "cpu"
    """Where to train and to search for neighbours: cpu, cuda, cuda:1."""
    quiet: bool = False
    """No progress on stderr."""


@dataclass(frozen=True, kw_only=True)
class Cluster(_Common):
    """Clusters embeddings, and says which labels can be trusted.

    Heads are trained on the embeddings by prototype pseudo-labels, and the one of the smallest loss
    is kept: the estimator PrototypeClustering, whose options these are. Clusters are expected to be
    of equal size unless --class-prior says otherwise.
    """

    n_clusters: Annotated[int, tyro.conf.arg(aliases=("-k",))]
    """How many clusters."""
    threshold: float = 0.95
    """A label is reliable if more than this share of the neighbours carries it."""
    n_heads: int = 10
    """Heads trained side by side."""
    hidden_features: int | None = None
    """Width of a head's hidden layer; None chooses it."""
    class_prior: tuple[float, ...] | None = None
    """Expected cluster sizes, one positive number a cluster, on any scale."""
    loss: Literal["double_softmax", "soft_contrastive"] = "double_softmax"
    """SPICE's or RPSC's."""
    assignment: Literal["overlap", "greedy", "optimal", "sequential", "nearest"] = "overlap"
    """How prototypes label samples."""
    prototype_ratio: float = 1.0
    """Share of a cluster that makes its prototype."""
    label_ratio: float = 1.0
    """Share of a cluster that is labelled."""
    learning_rate: float = 5e-3
    """Adam's."""
    batch_size: int = 128
    """Labelled entries a step and head."""
    samples_per_iter: int | None = None
    """Rows drawn a round; None chooses it."""
    max_iter: int = 20
    """Rounds at most."""
    early_stopping: bool = True
    """Stop when no head improves any more."""
    tol: float = 1e-3
    """What counts as better, for early stopping."""
    n_iter_no_change: int = 5
    """Rounds without improvement before it stops."""
    fit_rows: int = 100_000
    """Rows to train on, drawn at random if there are more; all rows are labelled."""

    def run(self) -> None:
        """Trains, labels, judges, writes."""
        stages = Stages(6, quiet=self.quiet)
        try:
            with stages("reading"):
                subject = _read(self, f"Clusters of {self.features.name}")
                _check_int("--n-clusters", self.n_clusters, 1, len(subject.features))
                subject = _with_neighbors(subject, self, self.n_clusters, _CLUSTER_NEIGHBORS)
                _check_int("--fit-rows", self.fit_rows, self.n_clusters, None)
            with OutputFolder(self.out, overwrite=self.overwrite, inputs=[self.features]) as out:
                probs, fitted = self._probabilities(subject.features, stages)
                labels = probs.argmax(axis=1)
                names = [str(cluster) for cluster in range(self.n_clusters)]
                subject = subject._replace(
                    labels=labels, given=labels, names=names, confidence=probs.max(axis=1)
                )
                line = write_results(out, subject, _settings("cluster", self) | fitted, stages)
        finally:
            stages.close()
        _tell(line, self.out)

    def _probabilities(
        self, features: np.ndarray, stages: Stages
    ) -> tuple[np.ndarray, dict[str, object]]:
        from pseudolabel.estimator import PrototypeClustering

        own = {"n_heads", "hidden_features", "class_prior", "loss", "assignment"}
        own |= {"prototype_ratio", "label_ratio", "learning_rate", "batch_size", "max_iter"}
        own |= {"samples_per_iter", "early_stopping", "tol", "n_iter_no_change", "device"}
        options = {name: value for name, value in asdict(self).items() if name in own}
        # The rows are judged below, all of them, by --metric and --neighbors.
        options |= {"random_state": self.seed, "n_neighbors": 1}
        rows = features
        if len(rows) > self.fit_rows:
            generator = np.random.default_rng(self.seed)
            rows = features[np.sort(generator.choice(len(features), self.fit_rows, replace=False))]
        with stages("training heads"):
            try:
                fitted = PrototypeClustering(self.n_clusters, **options).fit(rows)
            except (ValueError, TypeError) as error:
                raise InputError(str(error)) from None
        with stages("labelling"):
            blocks = range(0, len(features), _ROWS_AT_A_TIME)
            probs = [fitted.predict_proba(features[i : i + _ROWS_AT_A_TIME]) for i in blocks]
        trained: dict[str, object] = {
            "rounds": fitted.n_iter_,
            "kept_head": fitted.best_head_,
            "loss_of_kept_head": round(float(fitted.losses_[fitted.best_head_]), 6),
        }
        return np.concatenate(probs), trained


@dataclass(frozen=True, kw_only=True)
class Audit(_Common):
    """Finds the labels that are most likely wrong, whoever gave them, and suggests others."""

    labels: tyro.conf.Positional[Path]
    """One label a row, integers or strings, -1 or empty for none: .npy, .npz, .safetensors, .txt (a
    label a line) or .csv (a column)."""
    label_key: str | None = None
    """Which array of the labels' file, if it has several; of a .csv, the column ("label")."""
    threshold: float = 0.8
    """A label is reliable if more than this share of the neighbours carries it."""

    def run(self) -> None:
        """Judges, ranks, writes."""
        stages = Stages(4, quiet=self.quiet)
        try:
            with stages("reading"):
                subject = _read(self, f"Audit of {self.labels.name}")
                labels = read_labels(self.labels, self.label_key, len(subject.features))
                subject = _with_neighbors(subject, self, len(labels.names), _AUDIT_NEIGHBORS)
                subject = subject._replace(
                    labels=labels.codes, given=labels.given, names=labels.names, noun="class"
                )
            inputs = [self.features, self.labels]
            with OutputFolder(self.out, overwrite=self.overwrite, inputs=inputs) as out:
                line = write_results(out, subject, _settings("audit", self), stages)
        finally:
            stages.close()
        _tell(line, self.out)


def parse(arguments: Sequence[str]) -> Cluster | Audit:
    """The command that the arguments ask for; wrong ones exit with 2.

    Args:
        arguments: Without the program's name.
    """
    commands = (
        Annotated[Cluster, tyro.conf.subcommand("cluster")]
        | Annotated[Audit, tyro.conf.subcommand("audit")]
    )
    parsed: Cluster | Audit = tyro.cli(
        commands,
        prog="pseudolabel",
        description="Clusters embeddings, audits labels, and says which labels can be trusted.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return parsed


def _read(options: Cluster | Audit, title: str) -> Subject:
    if not 0 <= options.threshold <= 1:
        raise InputError(f"--threshold: expected a number in [0, 1], got {options.threshold}")
    _check_int("--seed", options.seed, 0, 2**32 - 1)
    try:
        torch.zeros(1, device=options.device).cpu()  # there, and with values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--device: expected one that torch can use, got {reason}") from None
    features = read_features(options.features, options.key)
    pictures = None
    if options.images is not None:
        pictures = list_pictures(options.images, len(features))
    return Subject(
        features=features,
        title=title,
        metric=options.metric,
        threshold=options.threshold,
        map_kind=options.map,
        seed=options.seed,
        device=options.device,
        pictures=pictures,
    )


def _with_neighbors(subject: Subject, options: _Common, classes: int, most: int) -> Subject:
    count = len(subject.features)
    chosen = options.neighbors
    if chosen is None:
        chosen = min(max(1, count // (2 * classes)), most)
    _check_int("--neighbors", chosen, 1, count - 1)
    return subject._replace(neighbors=chosen)


def _check_int(name: str, value: int, low: int, high: int | None) -> None:
    if value < low or (high is not None and value > high):
        interval = f"of {low} or more" if high is None else f"in [{low}, {high}]"
        raise InputError(f"{name}: expected a whole number {interval}, got {value}")


def _settings(command: str, options: Cluster | Audit) -> dict[str, object]:
    plain = {name: _plain(value) for name, value in asdict(options).items() if value is not None}
    return {"command": command, **plain}


def _tell(line: str, out: Path) -> None:
    print(f"{line}\n{out / 'report.html'}")  # noqa: T201 - what a command is for


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
