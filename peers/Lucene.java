import java.io.BufferedInputStream;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;
import org.apache.lucene.analysis.tokenattributes.TermFrequencyAttribute;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.Field;
import org.apache.lucene.document.FieldType;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.FieldInvertState;
import org.apache.lucene.index.IndexOptions;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.LogDocMergePolicy;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.BooleanClause.Occur;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.BoostQuery;
import org.apache.lucene.search.CollectionStatistics;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.ScoreDoc;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.search.TermStatistics;
import org.apache.lucene.search.TopScoreDocCollector;
import org.apache.lucene.search.similarities.Similarity;
import org.apache.lucene.store.Directory;
import org.apache.lucene.store.FSDirectory;

/**
 * Lucene's side of engines.py: impacts as term frequencies, and a score of query weight times
 * frequency.
 *
 * <p>{@code index DIR} reads the documents from stdin. {@code search DIR QUERIES} reads lines of
 * {@code METHOD FIRST LAST K}, asks the queries from FIRST to before LAST, and answers each line
 * with one of document numbers, best first, those of the last query asked.
 */
class Lucene {
    static final String FIELD = "v";

    public static void main(String[] arguments) throws IOException {
        try (Directory directory = FSDirectory.open(Path.of(arguments[1]))) {
            if (arguments[0].equals("index")) {
                index(directory);
            } else {
                serve(directory, readQueries(Path.of(arguments[2])));
            }
        }
    }

    /** Reads the number of documents, their lengths, and all postings as {@code term << 8 | impact}. */
    static void index(Directory directory) throws IOException {
        IndexWriterConfig config = new IndexWriterConfig();
        config.setSimilarity(new ImpactSimilarity());
        config.setMergePolicy(new LogDocMergePolicy()); // keeps the order of the documents
        config.setRAMBufferSizeMB(1024);
        config.setUseCompoundFile(false);
        DataInputStream input = new DataInputStream(new BufferedInputStream(System.in, 1 << 20));
        int[] lengths = readInts(input, input.readInt());
        try (IndexWriter writer = new IndexWriter(directory, config)) {
            VectorStream stream = new VectorStream();
            Document document = new Document();
            document.add(new Field(FIELD, stream, fieldType()));
            for (int length : lengths) {
                stream.postings = readInts(input, length);
                writer.addDocument(document);
            }
            writer.forceMerge(1);
        }
    }

    static FieldType fieldType() {
        FieldType type = new FieldType();
        type.setIndexOptions(IndexOptions.DOCS_AND_FREQS);
        type.setOmitNorms(true);
        type.freeze();
        return type;
    }

    static int[] readInts(DataInputStream input, int count) throws IOException {
        int[] values = new int[count];
        for (int idx = 0; idx < count; idx++) {
            values[idx] = input.readInt();
        }
        return values;
    }

    /** Lines of a number, a tab, and {@code term:weight} pairs. */
    static List<Query> readQueries(Path file) throws IOException {
        List<Query> queries = new ArrayList<>();
        for (String line : Files.readAllLines(file)) {
            BooleanQuery.Builder query = new BooleanQuery.Builder();
            for (String pair : line.substring(line.indexOf('\t') + 1).split(" ")) {
                String[] parts = pair.split(":");
                Query term = new TermQuery(new Term(FIELD, parts[0]));
                query.add(new BoostQuery(term, Float.parseFloat(parts[1])), Occur.SHOULD);
            }
            queries.add(query.build());
        }
        return queries;
    }

    static void serve(Directory directory, List<Query> queries) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        try (DirectoryReader reader = DirectoryReader.open(directory)) {
            IndexSearcher searcher = new IndexSearcher(reader);
            searcher.setSimilarity(new ImpactSimilarity());
            searcher.setQueryCache(null);
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] words = line.split(" ");
                boolean isExhaustive = words[0].equals("exhaustive");
                int first = Integer.parseInt(words[1]);
                int last = Integer.parseInt(words[2]);
                int k = Integer.parseInt(words[3]);
                ScoreDoc[] hits = {};
                for (Query query : queries.subList(first, last)) {
                    hits = search(searcher, query, k, isExhaustive);
                }
                System.out.println(numbers(hits));
            }
        }
    }

    /** Lucene scores every document that it must count. */
    static ScoreDoc[] search(IndexSearcher searcher, Query query, int k, boolean isExhaustive)
            throws IOException {
        int totalHitsThreshold = isExhaustive ? Integer.MAX_VALUE : 1;
        TopScoreDocCollector collector = TopScoreDocCollector.create(k, totalHitsThreshold);
        searcher.search(query, collector);
        return collector.topDocs().scoreDocs;
    }

    static String numbers(ScoreDoc[] hits) {
        StringBuilder line = new StringBuilder();
        for (ScoreDoc hit : hits) {
            line.append(hit.doc).append(' ');
        }
        return line.toString();
    }

    /** One document's terms, each once, its impact being its frequency. */
    static final class VectorStream extends TokenStream {
        final CharTermAttribute term = addAttribute(CharTermAttribute.class);
        final TermFrequencyAttribute frequency = addAttribute(TermFrequencyAttribute.class);
        int[] postings;
        int next;

        @Override
        public void reset() {
            next = 0;
        }

        @Override
        public boolean incrementToken() {
            if (next == postings.length) {
                return false;
            }
            clearAttributes();
            term.append("t").append(Integer.toString(postings[next] >>> 8));
            frequency.setTermFrequency(postings[next] & 0xFF);
            next++;
            return true;
        }
    }

    static final class ImpactSimilarity extends Similarity {
        @Override
        public long computeNorm(FieldInvertState state) {
            return 1;
        }

        @Override
        public SimScorer scorer(float boost, CollectionStatistics all, TermStatistics... terms) {
            return new SimScorer() {
                @Override
                public float score(float frequency, long norm) {
                    return boost * frequency;
                }
            };
        }
    }
}
