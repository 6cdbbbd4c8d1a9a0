// The sentences of the page, for a reader who knows lesions but not statistics.

/** A share 0..1 in percent. Nothing that is merely unlikely reads as 0 %, nor likely as 100 %. */
export function percent(share, digits = 1) {
  const least = 10 ** -digits;
  if (share > 0 && 100 * share < least / 2) return `< ${least} %`;
  if (share < 1 && 100 * share > 100 - least / 2) return `> ${100 - least} %`;
  return `${(100 * share).toFixed(digits)} %`;
}

/** A share as people count: "3 of 100". */
export function ofHundred(share) {
  const count = Math.round(100 * share);
  if (count === 0 && share > 0) return "fewer than 1 of 100";
  if (count === 100 && share < 1) return "more than 99 of 100";
  return `${count} of 100`;
}

/** Two shares in percent, with as many digits as tell them apart. */
function apart(one, other) {
  let digits = 1;
  while (digits < 6 && one !== other && percent(one, digits) === percent(other, digits)) digits += 1;
  return [percent(one, digits), percent(other, digits)];
}

/**
 * The flag of an answer: title, figures, meaning, worth; `model` is the answer of `GET /model`.
 *
 * Misses and false alarms are those of the test part, where the bundle has them: on the images that
 * the threshold was chosen on, which the operating point tells of, they look better than they are.
 */
export function flagWords({ flag, probability, threshold }, model) {
  const { malignancy_sensitivity, malignancy_specificity } = model.metrics;
  const sensitivity = malignancy_sensitivity ?? model.operating_point.sensitivity;
  const specificity = malignancy_specificity ?? model.operating_point.specificity;
  const [chance, limit] = apart(probability, threshold);
  if (flag === "malignant") {
    return {
      title: "▲ Flagged as malignant",
      figures: `Probability of a malignant class: ${chance}. The flag is raised from ${limit} on.`,
      meaning: "This is no diagnosis of cancer. It means: have a specialist look at the lesion. The limit is "
        + "low on purpose, so that little is missed: when the model was checked, "
        + `${ofHundred(1 - specificity.value)} benign lesions were flagged as well.`,
      worth: worthWords(model, "flagged lesions", ({ positive }) => positive),
    };
  }
  return {
    title: "○ Not flagged",
    figures: `Probability of a malignant class: ${chance}, below the ${limit} from which the flag is raised.`,
    meaning: "The service calls this “benign”, which does not mean harmless. When the model was checked, "
      + `${ofHundred(1 - sensitivity.value)} malignant lesions were missed like this. It knows `
      + `${model.classes.length} classes only, and takes anything else for one of them. If a lesion is new, changes, `
      + "bleeds or worries anyone, have a specialist look at it, whatever this page says.",
    worth: worthWords(model, "lesions that are not flagged", ({ negative }) => negative === null ? null : 1 - negative),
  };
}

/** How many of the lesions like this one are malignant, at each prevalence that `GET /model` tells. */
function worthWords(model, lesions, malignant) {
  const checked = model.metrics.malignancy_prevalence?.value;
  const known = model.predictive_values.filter((at) => malignant(at) !== null);
  if (known.length === 0) return "";
  const shares = known.map((at) => `${ofHundred(malignant(at))} where ${ofHundred(at.prevalence)} lesions are `
    + `malignant${at.prevalence === checked ? ", as when the model was checked" : ""}`);
  return `Malignant among ${lesions}: ${shares.join("; ")}.`;
}

/** Which class the overlay is about; `picked` names the benign label where it is shown for the flag. */
export function shownWords(name, picked) {
  const shown = `Shown: what spoke for ${name}`;
  if (!picked) return `${shown}.`;
  return `${shown}, the most probable malignant class, because the image is flagged. The class picked is `
    + `${picked}: choose it above to see what spoke for it.`;
}

/** Which class the decision rule picked, and why that may not be the longest bar. */
export function pickWords({ name, probability }, isLongest) {
  const pick = `The model picks: ${name} (${percent(probability)}).`;
  if (isLongest) return pick;
  return `${pick} This is not the longest bar: the rule favours rare classes, so as not to overlook them.`;
}

/** The prediction set: introduction and promise. `longer` names classes left out despite longer bars. */
export function setWords({ coverage, labels }, longer) {
  const despite = longer.length === 0 ? "" : " Not kept although the bar is longer: "
    + `${longer.join(", ")}. Each class has a limit of its own for being kept.`;
  return {
    intro: labels.length === 1 ? "It keeps one class:" : `It keeps ${labels.length} classes:`,
    meaning: `For ${ofHundred(coverage)} images like those it was checked with, the right class is meant to `
      + `be kept; for ${ofHundred(1 - coverage)} it is not.${despite}`,
  };
}

export function warningTitle(count) {
  return count === 1 ? "⚠ Before you read on: a warning" : `⚠ Before you read on: ${count} warnings`;
}

/** Name, value and meaning of the figures that most readers may skip. */
export function factWords(answer, provider) {
  const { entropy, disagreement, ood_score: strangeness, ood_threshold: limit } = answer.uncertainty;
  return [
    ["Spread over the classes", `${entropy.toFixed(2)} (0: one class is certain, 1: all are equally likely)`],
    ["Disagreement of the networks", `${disagreement.toFixed(2)} (0: none, 1: each says another class)`],
    ["Unlike the training images", `${strangeness.toPrecision(3)} (warned of over ${limit.toPrecision(3)})`],
    ["Model", `${answer.model.name} ${answer.model.version}, ${provider}`],
    ["Number of this request", answer.request_id],
  ];
}
