"""Tables of the results of run.py."""
import statistics

HEAD = ["setting", "converged", "Rot", "own", "Trans", "Trans corr.", "Res px", "own", "Err %", "Corr", "E", "Rot enc", "Err/Corr enc",
        "images", "minutes", "lost with a warning"]


def mean_of(values):
    """Mean of a list of numbers and nulls; None when there is none."""
    values = [v for v in values or [] if v is not None]
    return statistics.mean(values) if values else None


def converged(line):
    """Rot <= 0.1, and Err <= 5 % (two states) or Corr >= 0.9 (more), in one hand."""
    if line["rot"] is None or line["rot"] > 0.1 or any("opposite hands" in words for words in line["warnings"]):
        return False
    if line["err"] is not None:
        return line["err"] <= 0.05
    return line["corr"] is not None and line["corr"] >= 0.9


def spread(values, form="%.3g", factor=1.0):
    """"median [least .. largest]" over the seeds."""
    values = [factor * v for v in values if v is not None]
    if not values:
        return "-"
    text = form % statistics.median(values)
    return text if len(values) == 1 else "%s [%s .. %s]" % (text, form % min(values), form % max(values))


def row(setting, lines):
    get = lambda key: [line.get(key) for line in lines]
    two_states = any(value is not None for value in get("err_encoder"))
    classes = spread(get("err_encoder"), "%.2g %%", 100) if two_states else spread(get("corr_encoder"))
    lost = [line for line in lines if not converged(line)]
    failed = [line["exit"] for line in lines if line["exit"] not in (0, 75)]
    count = "%d of %d" % (len(lines) - len(lost), len(lines))
    count += "" if not failed else " (%d failed)" % len(failed)
    over_states = lambda key: spread([mean_of(v) for v in get(key)])
    return [setting, count, spread(get("rot")), over_states("class_rot_own"), spread(get("trans_raw")), spread(get("trans_corrected")),
            over_states("res"), over_states("res_own"), spread(get("err"), "%.2g", 100), spread(get("corr")),
            spread(get("entanglement"), "%.2g"), spread(get("rot_encoder")), classes,
            spread(get("images"), "%.0f"), spread(get("seconds"), "%.1f", 1 / 60),
            "-" if not lost else "%d of %d" % (sum(bool(line["warnings"]) for line in lost), len(lost))]


def print_tables(results):
    """One table per set in Markdown. Of several results of one run the last counts."""
    last = {(line["set"], line["setting"], line["seed"]): line for line in results}
    for data in sorted({key[0] for key in last}):
        settings = {key[1] for key in last if key[0] == data}
        rows = [HEAD, ["---"] * len(HEAD)]
        for setting in sorted(settings, key=lambda name: (name != "default", name)):
            rows.append(row(setting, [line for key, line in last.items() if key[:2] == (data, setting)]))
        print("**%s**\n" % data)
        for cells in rows:
            print("| " + " | ".join(cells) + " |")
        print()
    if not last:
        print("no results yet")
        return
    programs = ", ".join(sorted({line["program"] for line in last.values()}))
    print("Median over the seeds [least .. largest]. Converged: Rot <= 0.1, and Err <= 5 % or Corr >= 0.9. Trans in px^2; "
          "Res: FSC = 0.5,\nmean over the states; own: each state in a frame of its own, mean over the states. enc: the encoder's own answers (predict --amortised). "
          "images: seen in training, which took\nthe minutes. Program", programs + ".")
