// The sentences of the page, for readers who know lesions but not statistics.

/**
 * Format a share 0..1 in percent. Only 0 gives "0 %", and only 1 gives "100 %". Its spaces do not break a line.
 */
export function percent(share, digits = 1) {
  const least = 10 ** -digits;
  if (share > 0 && 100 * share < least / 2) return `<\u00a0${least}\u00a0%`;
  if (share < 1 && 100 * share > 100 - least / 2) return `>\u00a0${100 - least}\u00a0%`;
  return `${(100 * share).toFixed(digits)}\u00a0%`;
}

/** The flag in words, with a mark that does not need colour. */
export function flagTitle(flag) {
  return flag === "malignant" ? "▲ Flagged as malignant" : "○ Not flagged";
}

/** Format a share 0..1 as a natural frequency: "3 of 100". */
export function ofHundred(share) {
  const count = Math.round(100 * share);
  if (count === 0 && share > 0) return "fewer than 1 of 100";
  if (count === 100 && share < 1) return "more than 99 of 100";
  return `${count} of 100`;
}

/** Format two shares in percent, with enough digits to distinguish them. */
function distinguished(one, other) {
  let digits = 1;
  while (digits < 6 && one !== other && percent(one, digits) === percent(other, digits)) digits += 1;
  return [percent(one, digits), percent(other, digits)];
}

/**
 * The title, figures, meaning and worth of a flag. `model` is the response of `GET /model`, `point` its member
 * with the threshold: `metadata` if metadata was used, else `operating_point`.
 *
 * Sensitivity and specificity are those of the test part, if the bundle has them. Those of the operating
 * point are too good, because the threshold was chosen on the same images.
 */
export function flagWords({ flag, probability, threshold }, model, point) {
  const { malignancy_sensitivity, malignancy_specificity } = point.metrics ?? model.metrics;
  const sensitivity = malignancy_sensitivity ?? point.sensitivity;
  const specificity = malignancy_specificity ?? point.specificity;
  const worths = model.predictive_values.map(({ prevalence }) => (
    predictiveValues(prevalence, sensitivity.value, specificity.value)));
  const [chance, limit] = distinguished(probability, threshold);
  if (flag === "malignant") {
    return {
      title: flagTitle(flag),
      figures: `Probability of a malignant class: ${chance}. The threshold of the flag is ${limit}.`,
      meaning: "This is not a diagnosis of cancer. It means that a specialist should look at the lesion. The "
        + "threshold is low on purpose, so that few malignant lesions are missed: when the model was tested, "
        + `${ofHundred(1 - specificity.value)} benign lesions were flagged as well.`,
      worth: worthWords(model, worths, "flagged lesions", ({ positive }) => positive),
    };
  }
  return {
    title: flagTitle(flag),
    figures: `Probability of a malignant class: ${chance}, below the threshold of ${limit}.`,
    meaning: "The service calls this “benign”, which does not mean harmless. When the model was tested, "
      + `${ofHundred(1 - sensitivity.value)} malignant lesions were missed like this. The model knows only `
      + `${model.classes.length} classes, and assigns every image to one of them. If a lesion is new, `
      + "changes, bleeds or worries anyone, a specialist should look at it, whatever this page says.",
    worth: worthWords(model, worths, "lesions that are not flagged", ({ missed }) => missed),
  };
}

/** Share of malignant lesions among the flagged (`positive`) and the others (`missed`), by Bayes' theorem. */
function predictiveValues(prevalence, sensitivity, specificity) {
  const flagged = sensitivity * prevalence;
  const missed = (1 - sensitivity) * prevalence;
  return {
    prevalence,
    positive: flagged / (flagged + (1 - specificity) * (1 - prevalence)),
    missed: missed / (missed + specificity * (1 - prevalence)),
  };
}

/** How many lesions with this flag are malignant, at each prevalence in `GET /model`. */
function worthWords(model, worths, lesions, malignant) {
  const tested = model.metrics.malignancy_prevalence?.value;
  const known = worths.filter((at) => Number.isFinite(malignant(at)));
  if (known.length === 0) return "";
  const shares = known.map((at) => `${ofHundred(malignant(at))} where ${ofHundred(at.prevalence)} lesions are `
    + `malignant${at.prevalence === tested ? ", as when the model was tested" : ""}`);
  return `Malignant among ${lesions}: ${shares.join("; ")}.`;
}

/** Which facts the model used besides the image. `used` is null or has some of age, sex and site. */
export function usedWords(used) {
  const { age, sex, site } = used ?? {};
  const facts = [age !== undefined && `age ${age}`, sex && `sex ${sex}`, site && `site ${site}`].filter(Boolean);
  return `Metadata used: ${facts.join(", ") || "none"}.`;
}

/** Which class the overlay explains. `picked` is the benign label, if it explains the flag instead. */
export function shownWords(name, picked) {
  const shown = `Shown: evidence for ${name}`;
  if (!picked) return `${shown}.`;
  return `${shown}, the most probable malignant class, because the image is flagged. The class picked is `
    + `${picked}. Choose it above to see the evidence for it.`;
}

/** Which class the decision rule picked, and why its bar may not be the longest. */
export function pickWords({ name, probability }, isLongest) {
  const pick = `The model picks: ${name} (${percent(probability)}).`;
  if (isLongest) return pick;
  return `${pick} Its bar is not the longest, because the rule favours rare classes.`;
}

/** Introduction and meaning of the prediction set. `longer` are classes outside it with longer bars. */
export function setWords({ coverage, labels }, longer) {
  const despite = longer.length === 0 ? "" : " Not in the set although the bar is longer: "
    + `${longer.join(", ")}. Each class has its own threshold.`;
  return {
    intro: labels.length === 1 ? "The set has one class:" : `The set has ${labels.length} classes:`,
    meaning: `For ${ofHundred(coverage)} images like those that the model was tested with, the set should `
      + `contain the right class. For ${ofHundred(1 - coverage)}, it does not.${despite}`,
  };
}

/** Names and values of what a printed result needs: whose it is, and which model gave it when. */
export function printWords(answer, name, time) {
  return [
    ["File", name],
    ["Answered", time.toLocaleString()],
    ["Model", `${answer.model.name} ${answer.model.version}`],
    ["Metadata used", usedWords(answer.metadata_used).replace("Metadata used: ", "")],
    ["Request id", answer.request_id],
    ["Intended use", "Research use only. Not a medical device, not for diagnosis."],
  ];
}

/** Names and values of the metrics of a model that a reader asks for first, with their 95 % intervals. */
export function modelWords({ metrics, prediction_sets: sets }) {
  const known = [
    ["Label: accuracy", metrics.accuracy_rule],
    ["Label: balanced accuracy, the mean recall of the classes", metrics.balanced_accuracy],
    ["Label: melanomas found", metrics.recall_mel],
    ["Flag: malignant lesions found (sensitivity)", metrics.malignancy_sensitivity],
    ["Flag: benign lesions not flagged (specificity)", metrics.malignancy_specificity],
    ["Prediction set: contains the right class", sets.measured?.overall],
  ];
  return known.filter(([, figure]) => figure).map(([term, { value, low, high }]) => [
    term, `${percent(value)} (between ${percent(low)} and ${percent(high)})`]);
}

export function warningTitle(count) {
  return count === 1 ? "⚠ Before you read on: a warning" : `⚠ Before you read on: ${count} warnings`;
}

/** Names and values of the figures that most readers can skip. */
export function factWords(answer, provider) {
  const { entropy, disagreement, ood_score: score, ood_threshold: limit } = answer.uncertainty;
  return [
    ["Spread over the classes", `${entropy.toFixed(2)} (0: one class is certain, 1: all are equally likely)`],
    ["Disagreement of the networks", `${disagreement.toFixed(2)} (0: none, 1: each picks another class)`],
    ["Difference from the training images", `${score.toPrecision(3)} (warning above ${limit.toPrecision(3)})`],
    ["Model", `${answer.model.name} ${answer.model.version}, ${provider}`],
    ["Request id", answer.request_id],
  ];
}
