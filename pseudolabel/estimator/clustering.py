"""The estimator: options, scikit-learn's methods, and what is known after a fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from pseudolabel._checks import (
    check_flag,
    check_int,
    check_option,
    check_real,
    wrong_type,
    wrong_value,
)
from pseudolabel.estimator._training import Settings, lift, train_heads
from pseudolabel.heads import select_head
from pseudolabel.neighbors import nearest_neighbors
from pseudolabel.prototypes.assignment import ASSIGNMENTS, Assignment
from pseudolabel.reliability import reliability_ratio, reliable_mask

_ROWS_AT_A_TIME = 8192


class PrototypeClustering(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    r"""Clusters embeddings by heads that learn their own prototype labels (SPICE, stage 2; RPSC).

    Every round draws M samples; every head's most confident ones make its prototypes, the samples
    nearest to a prototype carry its label (`prototype_labels`: SPICE Eq. 2-4, RPSC Eq. 1-2), and
    the heads learn these labels (`double_softmax_cross_entropy`: SPICE Eq. 5, or
    `soft_contrastive_loss`: RPSC Eq. 3-5). The head of the smallest loss is kept. Neither training
    nor choice ever sees ``y``. The first prototypes are k-means++ seeds, new ones for every head.

    Embeddings are centred, scaled as a whole to a mean square of 1 and, where prototypes are
    compared, given one constant coordinate:

    .. math:: \tilde x = \left(\frac{x - \mu}{\sigma \sqrt D}, 1\right)

    so that the cosine sees lengths as well as directions and D = 1 makes sense too.

    Clusters are expected to be of equal size, or of the sizes given by ``class_prior``. Where sizes
    differ and are unknown, k-means is the better choice.

    Args:
        n_clusters: K, at most the number of samples.
        n_heads: How many heads are trained side by side; the best one is kept.
        hidden_features: Width of a head's hidden layer; None means D, in [16, 128].
        class_prior: Expected cluster sizes, K positive numbers on any scale: cluster c has the size
            ``class_prior[c]``. None means equal sizes.
        loss: ``"double_softmax"`` (SPICE) or ``"soft_contrastive"`` (RPSC).
        assignment: See `assign_labels`.
        prototype_ratio: In (0, 1]; see `prototype_labels`. 1 is SPICE's Eq. 2.
        label_ratio: In (0, 1]; see `prototype_labels`.
        learning_rate: Adam's, above 0.
        batch_size: Labelled entries a step and head.
        samples_per_iter: M, in ``[K, N]``; None means all up to 5,000 or 50 K, whichever is more.
        max_iter: Rounds at most.
        early_stopping: Whether to stop once no head has improved its loss by more than ``tol`` for
            ``n_iter_no_change`` rounds.
        tol: See ``early_stopping``.
        n_iter_no_change: See ``early_stopping``.
        n_neighbors: k of the reliability, in ``[1, N - 1]``; None means half a mean cluster,
            ``N // (2 K)``, in [1, 100].
        reliability_threshold: In [0, 1]; a label is reliable if its ratio lies above.
        device: Where to train; None means the CPU. The fitted estimator lives on the CPU.
        random_state: An int makes results the same on every call; see scikit-learn's glossary.
            Torch's own generators are neither used nor moved.

    Attributes:
        labels_: int64 ``(N,)``, the cluster of each sample: ``predict(X)``.
        reliability_: float64 ``(N,)``, the share of a sample's k nearest neighbours in its cluster
            (SPICE Eq. 6); 0 for a lone sample.
        reliable_: bool ``(N,)``, whether it lies above the threshold (SPICE Eq. 7).
        cluster_prototypes_: float64 ``(K, D)``, in the units of ``X``.
        losses_: float64 ``(n_heads,)``, each head's final loss on its own labels.
        loss_curve_: float64 ``(n_iter_, n_heads)``, the same while training.
        best_head_: The head of the smallest loss.
        head_: That head, a float64 ``torch.nn.Sequential`` over centred and scaled embeddings.
        n_iter_: Rounds run.
        n_features_in_: D.

    Raises:
        TypeError: On `fit`, if an option is of the wrong kind.
        ValueError: On `fit`, if an option is out of range, there are fewer samples than clusters,
            or ``X`` is not a finite array of shape ``(N, D)``.

    Example:
        >>> import torch
        >>> from pseudolabel.estimator import PrototypeClustering
        >>> generator = torch.Generator().manual_seed(0)
        >>> corners = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]).repeat_interleave(20, 0)
        >>> embeddings = corners + torch.randn(60, 2, generator=generator)
        >>> clusters = PrototypeClustering(3, max_iter=5, random_state=0).fit(embeddings)
        >>> all(len(set(clusters.labels_[i : i + 20].tolist())) == 1 for i in (0, 20, 40))
        True
        >>> clusters.predict_proba(embeddings[:2]).shape
        (2, 3)
    """

    labels_: np.ndarray

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_heads: int = 10,
        hidden_features: int | None = None,
        class_prior: Sequence[float] | np.ndarray | Tensor | None = None,
        loss: Literal["double_softmax", "soft_contrastive"] = "double_softmax",
        assignment: Assignment = "overlap",
        prototype_ratio: float = 1.0,
        label_ratio: float = 1.0,
        learning_rate: float = 5e-3,
        batch_size: int = 128,
        samples_per_iter: int | None = None,
        max_iter: int = 20,
        early_stopping: bool = True,
        tol: float = 1e-3,
        n_iter_no_change: int = 5,
        n_neighbors: int | None = None,
        reliability_threshold: float = 0.95,
        device: str | torch.device | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_heads = n_heads
        self.hidden_features = hidden_features
        self.class_prior = class_prior
        self.loss = loss
        self.assignment = assignment
        self.prototype_ratio = prototype_ratio
        self.label_ratio = label_ratio
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.samples_per_iter = samples_per_iter
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.n_neighbors = n_neighbors
        self.reliability_threshold = reliability_threshold
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> PrototypeClustering:
        """Finds the clusters of embeddings.

        Args:
            X: ``(N, D)``, a NumPy array, a tensor on any device, or anything array-like.
            y: Not used.

        Returns:
            The estimator itself.
        """
        array = validate_data(self, _as_array(X), dtype=np.float64)
        settings = self._settings(*array.shape)
        # In units of the largest value, so that no square overflows.
        peak = float(np.abs(array).max()) or 1.0
        mean = (array / peak).mean(axis=0)
        square = float(np.mean((array / peak - mean) ** 2))
        self._mean, self._scale = mean * peak, (math.sqrt(square) or 1.0) * peak
        features = torch.from_numpy(self._scaled(array)).float()
        features = features.to("cpu" if self.device is None else self.device)

        trained = train_heads(features, settings, check_random_state(self.random_state))
        self.losses_, self.loss_curve_ = trained.losses, trained.curve
        self.n_iter_ = len(self.loss_curve_)
        self.best_head_ = select_head(torch.from_numpy(self.losses_))
        best = trained.heads.head(self.best_head_)
        self.head_ = best.double().cpu().requires_grad_(False)
        # Back through the lifting: a mean of the cluster's rows, in the units of X.
        lifted = trained.prototypes[self.best_head_].double().cpu().numpy()
        spread = self._scale * math.sqrt(array.shape[1])
        self.cluster_prototypes_ = lifted[:, :-1] / lifted[:, -1:] * spread + self._mean
        self.labels_ = self._probabilities(array).argmax(axis=1)
        self._judge(features)
        return self

    def predict(self, X: ArrayLike | Tensor) -> np.ndarray:
        """The most probable cluster of each row.

        Args:
            X: ``(N, D)``.

        Returns:
            int64 ``(N,)``.
        """
        labels: np.ndarray = self.predict_proba(X).argmax(axis=1)
        return labels

    def predict_proba(self, X: ArrayLike | Tensor) -> np.ndarray:
        """The probabilities of the clusters, by the best head.

        Args:
            X: ``(N, D)``.

        Returns:
            float64 ``(N, K)``; rows sum to 1.
        """
        check_is_fitted(self)
        array = validate_data(self, _as_array(X), dtype=np.float64, reset=False)
        return self._probabilities(array)

    def _settings(self, num_samples: int, num_features: int) -> Settings:
        """Checks every option and fills in those that depend on the data."""
        among = f" (n_samples={num_samples})"
        clusters = check_int("n_clusters", self.n_clusters, 1, num_samples, among)
        hidden, drawn = self.hidden_features, self.samples_per_iter
        if hidden is None:
            hidden = min(max(num_features, 16), 128)
        if drawn is None:
            drawn = min(num_samples, max(5000, 50 * clusters))
        check_option("loss", self.loss, ("double_softmax", "soft_contrastive"))
        check_option("assignment", self.assignment, ASSIGNMENTS)
        check_flag("early_stopping", self.early_stopping)
        patience = check_int("n_iter_no_change", self.n_iter_no_change, 1, None)
        check_real("reliability_threshold", self.reliability_threshold)
        if self.n_neighbors is not None:
            check_int("n_neighbors", self.n_neighbors, 1, num_samples - 1, among)
        return Settings(
            clusters=clusters,
            heads=check_int("n_heads", self.n_heads, 1, None),
            hidden=check_int("hidden_features", hidden, 1, None),
            prior=self._prior(),
            loss=self.loss,
            assignment=self.assignment,
            prototype_ratio=check_real("prototype_ratio", self.prototype_ratio, low_open=True),
            label_ratio=check_real("label_ratio", self.label_ratio, low_open=True),
            learning_rate=check_real(
                "learning_rate", self.learning_rate, high=math.inf, low_open=True
            ),
            batch_size=check_int("batch_size", self.batch_size, 1, None),
            samples=check_int("samples_per_iter", drawn, clusters, num_samples, among),
            rounds=check_int("max_iter", self.max_iter, 1, None),
            tol=check_real("tol", self.tol, high=math.inf),
            patience=patience if self.early_stopping else None,
        )

    def _prior(self) -> list[float] | None:
        if self.class_prior is None:
            return None
        expected, prior = f"{self.n_clusters} positive numbers", np.asarray(self.class_prior)
        if prior.dtype.kind not in "iuf":
            wrong_type("class_prior", expected, self.class_prior)
        if prior.shape != (self.n_clusters,) or not (np.isfinite(prior) & (prior > 0)).all():
            wrong_value("class_prior", expected, str(prior.tolist()))
        shares: list[float] = prior.tolist()
        return shares

    def _scaled(self, array: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = array / self._scale - self._mean / self._scale
        return scaled

    def _probabilities(self, array: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            blocks = np.array_split(array, -(-len(array) // _ROWS_AT_A_TIME))
            logits = [self.head_(torch.from_numpy(self._scaled(block))) for block in blocks]
            probs: np.ndarray = torch.cat(logits).softmax(-1).numpy()
        return probs

    def _judge(self, features: Tensor) -> None:
        """How many neighbours of each sample share its cluster."""
        count = len(features)
        if count == 1:
            self.reliability_, self.reliable_ = np.zeros(1), np.zeros(1, dtype=bool)
            return
        k = self.n_neighbors or min(max(1, count // (2 * self.n_clusters)), 100, count - 1)
        lifted, labels = lift(features), torch.from_numpy(self.labels_).to(features.device)
        neighbors = nearest_neighbors(lifted, k)
        threshold = self.reliability_threshold
        mask = reliable_mask(lifted, labels, neighbors=neighbors, threshold=threshold)
        self.reliability_ = reliability_ratio(labels, neighbors).cpu().numpy()
        self.reliable_ = mask.cpu().numpy()


def _as_array(data: ArrayLike | Tensor) -> ArrayLike:
    """A tensor as a NumPy array, which knows no bfloat16."""
    if not isinstance(data, Tensor):
        return data
    data = data.detach().cpu()
    array: np.ndarray = (data.float() if data.dtype == torch.bfloat16 else data).numpy()
    return array
